"""The tests of sisy: one test_<module>.py a source file; flow/ for the whole way through real processes."""
