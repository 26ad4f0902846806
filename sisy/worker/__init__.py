"""What a worker process does: listen, claim, execute, finish, renew, drain.

- `pool`: slots: threads for sync functions, one event loop for async ones
- `pump`: claims runs, offers them to the pool, writes how they ended
- `keeper`: renews leases, enforces timeouts and cancellations
- `ticker`: ticks when a message asks for it
- `engine`: these three, each in a thread of its own
- `listener`: Channels' Worker with sisy's manners: reconnects, validates, drains
- `heartbeat`: ticks at each boundary
- `supervisor`: several such processes under one parent
"""
