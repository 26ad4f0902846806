// For the pages of tasks: what a schedule means while it is typed, instants in the browser's zone, menus that close,
// charts by arrow keys. Everything works without this.

const PAUSE = 250; // milliseconds without a key before the server is asked

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Write an instant without the date and the seconds where they say nothing. */
function inBrowserZone(instant, beside) {
    const text = new Date(instant).toLocaleString("sv-SE", { timeZone: zone }); // 2026-11-25 09:00:00
    const [date, clock] = text.split(" ");
    const short = clock.endsWith(":00") ? clock.slice(0, -3) : clock;
    return beside.startsWith(date) ? short : `${date} ${short}`;
}

function showBrowserTimes(root) {
    for (const cell of root.querySelectorAll(".sisy-browser")) {
        cell.hidden = false;
        if (cell.dataset.sisyInstant) {
            cell.textContent = inBrowserZone(cell.dataset.sisyInstant, cell.dataset.sisyBeside);
        } else {
            cell.textContent = zone;
            cell.title = cell.dataset.sisyTitle;
        }
    }
}

function previewSchedule(field) {
    const form = field.form;
    const box = document.createElement("div");
    box.className = "sisy-preview";
    box.setAttribute("role", "status"); // a polite live region
    box.id = `${field.id}_preview`;
    field.closest(".form-row").append(box);
    field.setAttribute("aria-describedby", `${field.getAttribute("aria-describedby") || ""} ${box.id}`.trim());
    let timer = 0;
    let asking = new AbortController();

    async function ask() {
        asking.abort();
        asking = new AbortController();
        const query = new URLSearchParams({ schedule: field.value, task: field.dataset.sisyTask });
        for (const name of ["timezone", "callable", "label"]) {
            query.set(name, form.elements[name]?.value ?? "");
        }
        try {
            const url = `${field.dataset.sisyPreview}?${query}`;
            const response = await fetch(url, { signal: asking.signal, credentials: "same-origin" });
            if (!response.ok) throw new Error(response.statusText);
            const answer = new DOMParser().parseFromString(await response.text(), "text/html");
            showBrowserTimes(answer);
            box.replaceChildren(...answer.body.childNodes);
            field.setAttribute("aria-invalid", String(box.querySelector(".sisy-error") !== null));
        } catch (error) {
            if (error.name !== "AbortError") {
                box.replaceChildren(); // offline, or logged out: saving will tell
            }
        }
    }

    function askSoon() {
        clearTimeout(timer);
        timer = setTimeout(ask, PAUSE);
    }

    field.addEventListener("input", askSoon);
    form.elements.timezone?.addEventListener("change", askSoon);
    ask();
}

/** Move through the links of a chart; only one of them is reached by Tab. */
function rove(event) {
    const link = event.target.closest("[data-sisy-roving] a");
    if (!link) return;
    const links = [...link.closest("[data-sisy-roving]").querySelectorAll("a")];
    const here = links.indexOf(link);
    const next = links[{ ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: links.length - 1 }[event.key]];
    if (next) {
        event.preventDefault();
        link.setAttribute("tabindex", "-1");
        next.removeAttribute("tabindex");
        next.focus();
    }
}

/** Close menus when something else is clicked, and with Escape. */
function closeMenus(event) {
    for (const menu of document.querySelectorAll("details.sisy-filter[open]")) {
        if (event.key === "Escape") menu.querySelector("summary").focus();
        if (event.key === "Escape" || (event.type === "click" && !menu.contains(event.target))) {
            menu.open = false;
        }
    }
}

document.addEventListener("click", closeMenus);
document.addEventListener("keydown", closeMenus);
document.addEventListener("keydown", rove);
showBrowserTimes(document);
document.querySelectorAll("[data-sisy-preview]").forEach(previewSchedule);

// What live.js fetches again comes with the column hidden.
const changes = new MutationObserver(() => {
    if (document.querySelector(".sisy-browser[hidden]")) showBrowserTimes(document);
});
changes.observe(document.getElementById("content") ?? document.body, {
    childList: true,
    subtree: true,
    attributeFilter: ["hidden"],
});
