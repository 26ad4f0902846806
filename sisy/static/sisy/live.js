// Keeps live regions of a page up to date: hints come through a websocket, or from a timer; what to show is fetched as
// HTML and merged into the page. Without this script the pages are as complete, and stand still.

const PAUSE = 500, POLL = 5000, LIVE_POLL = 30000, SPEAK = 10000, LONGEST_WAIT = 30000;
const status = document.getElementById("sisy-live");
const wanted = new Set();
let offset = serverNow(status?.dataset.sisyNow), isBusy = false, fetchedAt = 0, took = 0, timer = 0, hasFailed = false;
let pause = PAUSE, rest = PAUSE, wantedAt = 0, isOut = false, spoken = "", spokenAt = 0, lookedAt = 0;
const title = document.title;

function serverNow(seconds) {
    return seconds ? seconds * 1000 - Date.now() : 0;
}

// Regions and what is news for them

function isNews(topics, on) {
    const words = ["*", ...on.split(" ")];
    return topics.some((topic) => words.includes(topic) || words.includes(topic.split(":")[0]));
}

function want(topics) {
    wantedAt = performance.now();
    rest = PAUSE; // the server has seen to it that others have their turns
    if (topics.includes("*")) lookedAt = wantedAt;
    for (const region of document.querySelectorAll("[data-sisy-url]")) {
        if (isNews(topics, region.dataset.sisyOn)) wanted.add(region.id);
    }
    soon();
}

function soon() {
    if (!wanted.size || isBusy || isOut || document.hidden) return;
    clearTimeout(timer);
    timer = setTimeout(refresh, fetchedAt + Math.max(rest, 4 * took) - performance.now());
}

async function refresh() {
    if (document.hidden || isBusy) return;
    const began = performance.now(), since = wantedAt, groups = new Map();
    isBusy = true;
    for (const id of [...wanted]) {
        const region = document.getElementById(id);
        if (region?.querySelector("input.action-select:checked")) continue; // selected rows stay where they are
        wanted.delete(id);
        if (!region?.dataset.sisyUrl) continue;
        const [, before, name, after] = region.dataset.sisyUrl.match(/^([^?]*\/)([^/?]+)(\/.*)$/);
        const group = groups.get(before + after) ?? {before, after, names: [], ids: []};
        group.names.push(name);
        group.ids.push(id);
        groups.set(before + after, group);
    }
    let failed = false, isStale = false;
    for (const {before, after, names, ids} of groups.values()) {
        try {
            const readAt = await fetchRegions(before + names.join("+") + after);
            if (readAt >= since) continue;
            isStale = true; // read before the hint came
        } catch {
            failed = true;
        }
        ids.forEach((id) => wanted.add(id));
    }
    if (groups.size) hasFailed = failed;
    isBusy = false;
    if (failed) rest = POLL;
    else if (isStale && wantedAt === since) rest = pause;
    fetchedAt = performance.now();
    took = failed ? 0 : fetchedAt - began;
    show();
    soon();
}

async function fetchRegions(url) {
    const asked = performance.now();
    const signal = AbortSignal.timeout(LONGEST_WAIT);
    const response = await fetch(url, {headers: {"Sisy-Live": "1"}, redirect: "manual", cache: "no-store", signal});
    if (response.type === "opaqueredirect" || response.status === 403) isOut = true;
    if (!response.ok) throw new Error(response.status);
    offset = serverNow(response.headers.get("Sisy-Now"));
    const parsed = parse(await response.text());
    for (const region of parsed.querySelectorAll("[data-sisy-url]")) {
        const old = document.getElementById(region.id);
        if (old) merge(old, region);
    }
    if (parsed.querySelector("[data-sisy-reload]")) location.reload();
    tick();
    speak();
    return asked - 1000 * (response.headers.get("Sisy-Age") ?? 0);
}

function parse(html) {
    return new DOMParser().parseFromString(html, "text/html");
}

// Merging: what is equal stays, so that focus, selection, scroll and open details do

function keyOf(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return null;
    return node.id || node.dataset.key || (node.tagName === "TR" && node.querySelector("input.action-select")?.value) || null;
}

function merge(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
        old.nodeValue = next.nodeValue;
        return;
    }
    const follows = old.hasAttribute("data-sisy-follow") && old.scrollHeight - old.scrollTop - old.clientHeight < 8;
    for (const {name} of [...old.attributes]) {
        if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const {name, value} of next.attributes) {
        if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
    }
    mergeChildren(old, next);
    if (follows) old.scrollTop = old.scrollHeight;
}

function mergeChildren(old, next) {
    const keyed = new Map([...old.children].map((child) => [keyOf(child), child]));
    let here = old.firstChild;
    for (const child of [...next.childNodes]) {
        const key = keyOf(child);
        let match = key ? keyed.get(key) : here;
        if (match && (match.nodeName !== child.nodeName || (!key && keyOf(match)))) match = null;
        if (!match) {
            old.insertBefore(child, here);
        } else {
            if (match === here) here = here.nextSibling;
            else old.insertBefore(match, here);
            merge(match, child);
        }
    }
    while (here) {
        const gone = here;
        here = here.nextSibling;
        gone.remove();
    }
}

// Elapsed and remaining time, by the server's clock

function tick() {
    const now = Date.now() + offset;
    for (const element of document.querySelectorAll("[data-sisy-since]")) {
        write(element, inWords(Math.max(0, now - element.dataset.sisySince * 1000)));
    }
    for (const element of document.querySelectorAll("[data-sisy-until]")) {
        const left = element.dataset.sisyUntil * 1000 - now;
        write(element, left > 0 ? element.dataset.sisyText.replace("%s", inWords(left + 999)) : element.dataset.sisyPast);
    }
}

function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

function inWords(milliseconds) {
    const seconds = Math.floor(milliseconds / 1000), minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
    if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
    if (hours) return `${hours} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

// Sockets

class Hints {
    constructor(url) {
        this.url = new URL(url, location);
        this.url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
        this.wait = 1000;
        this.isLive = this.isRefused = false;
        this.open();
    }

    open() {
        clearTimeout(this.timer);
        if (this.socket || this.isRefused || document.hidden) return;
        const socket = (this.socket = new WebSocket(this.url));
        socket.onmessage = (event) => this.hear(JSON.parse(event.data));
        socket.onclose = (event) => {
            if (this.socket !== socket) return;
            this.socket = null;
            this.isLive = false;
            this.isRefused = event.code === 4403;
            this.timer = setTimeout(() => this.open(), this.wait * (0.5 + Math.random()));
            this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
            show();
        };
    }

    hear(frame) {
        if ("live" in frame) {
            this.isLive = frame.live;
            this.wait = 1000;
            show();
            want(["*"]); // what was missed is not told: look
        }
        if (frame.pause) pause = 1000 * frame.pause; // until all pages have had a turn
        if (frame.changed) want(frame.changed);
    }

    close() {
        const socket = this.socket;
        this.socket = null;
        this.isLive = false;
        socket?.close();
    }
}

const addresses = [...document.querySelectorAll("[data-sisy-socket]")].map((one) => one.dataset.sisySocket);
const sockets = [...new Set(addresses)].map((address) => new Hints(address));

function isLive() {
    return sockets.length > 0 && sockets.every((hints) => hints.isLive);
}

function show() {
    if (!status) return;
    const state = hasFailed || isOut ? "offline" : isLive() ? "live" : "polling";
    status.hidden = false;
    status.dataset.state = state;
    write(status.querySelector("[data-sisy-state]"), status.dataset[isOut ? "out" : state]);
}

function speak() {
    const said = document.querySelector("[data-sisy-say]"), voice = document.getElementById("sisy-voice");
    if (!said) return;
    const failing = Number(said.dataset.sisyFailing);
    document.title = failing ? `(${failing}) ${title}` : title;
    if (voice && said.dataset.sisySay !== spoken && performance.now() - spokenAt > SPEAK) {
        spoken = said.dataset.sisySay;
        spokenAt = performance.now();
        write(voice, spoken);
    }
}

// What people do

function ask(text) {
    const dialog = document.getElementById("sisy-ask");
    write(dialog.querySelector("p"), text);
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), {once: true});
    });
}

async function post(form, button) {
    const url = button?.getAttribute("formaction") ?? form.getAttribute("action"); // the page may change meanwhile
    const question = button?.dataset.sisyConfirm;
    if (question && !(await ask(question))) return;
    const body = new FormData(form);
    body.append("confirmed", "1");
    if (button) button.disabled = true;
    let response;
    try {
        response = await fetch(url, {method: "POST", body, headers: {"Sisy-Live": "1"}, redirect: "manual"});
    } catch {
        hasFailed = true;
        show();
        return;
    } finally {
        if (button) button.disabled = false;
    }
    const elsewhere = response.headers.get("Sisy-Location");
    if (elsewhere) location.assign(elsewhere);
    else if (response.ok) tell(parse(await response.text()).querySelector("ul"));
    else tell(refusal());
    fetchedAt = took = 0;
    pause = PAUSE;
    want(["*"]);
}

function refusal() {
    const list = parse('<ul class="messagelist"><li class="error">').querySelector("ul");
    list.firstChild.textContent = status.dataset.refused;
    return list;
}

function tell(list) {
    if (!list) return;
    const old = document.querySelector(".messagelist");
    list.setAttribute("role", "status");
    if (old) old.replaceWith(list);
    else document.getElementById("content").before(list);
}

async function copy(button) {
    const text = document.getElementById(button.dataset.sisyCopy).textContent;
    try {
        await navigator.clipboard.writeText(text);
    } catch { // plain HTTP
        const area = document.createElement("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
        button.focus();
    }
    const before = button.textContent;
    write(button, button.dataset.sisyCopied);
    setTimeout(() => write(button, before), 2000);
}

document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-sisy-post]") || !status) return;
    event.preventDefault();
    post(event.target, event.submitter);
});

document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-sisy-copy]");
    if (button) copy(button);
});

// A tab that nobody sees does nothing; one that comes back shows the truth

document.addEventListener("visibilitychange", () => {
    isOut = false; // perhaps somebody has logged in elsewhere
    for (const hints of sockets) {
        hints.isRefused = false;
        document.hidden ? hints.close() : hints.open();
    }
    if (!document.hidden) want(["*"]);
});

window.addEventListener("online", () => want(["*"]));

setInterval(() => {
    if (document.hidden) return;
    tick();
    if (performance.now() - lookedAt >= (isLive() ? LIVE_POLL : POLL)) want(["*"]);
}, 1000);

tick();
show();
