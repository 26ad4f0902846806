"""Read the admin's pages as a browser does: what a form would post, what a strict Content-Security-Policy forbids."""

from html.parser import HTMLParser
from typing import Any

VOID = {"input", "meta", "link", "br", "img", "hr", "col"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        fields: name -> value of what its main form would post; names of buttons are left out.
        choices: name of a select -> the values that it offers.
        posts: the addresses that forms and buttons on it post to.
        violations: what a policy without 'unsafe-inline' would block.
        tags: every tag with its attributes.
        text: what is written on it.
    """

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self.posts: list[str] = []
        self.violations: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._form = self._select = self._area = self._inside = ""
        self.feed(response.content.decode())

    def handle_starttag(self, tag: str, pairs: Any) -> None:
        attributes = {name: value or "" for name, value in pairs}
        self.tags.append((tag, attributes))
        self._inside = tag if tag not in VOID else self._inside
        self._check(tag, attributes)
        name = attributes.get("name", "")
        if tag == "form":
            self._form = attributes.get("id", "")
            if attributes.get("method") == "post":
                self.posts.append(attributes.get("action", ""))
        elif tag == "button" and "formaction" in attributes:
            self.posts.append(attributes["formaction"])
        elif tag == "select":
            self._select = name
            self.choices[name] = []
        elif tag == "option" and self._select:
            self.choices[self._select].append(attributes.get("value", ""))
            if "selected" in attributes:
                self._keep(self._select, attributes.get("value", ""))
        elif tag == "textarea":
            self._area = name
            self._keep(name, "")
        elif tag == "input" and attributes.get("type") not in ("submit", "checkbox"):
            self._keep(name, attributes.get("value", ""))
        elif tag == "input" and "checked" in attributes:
            self._keep(name, attributes.get("value", "on"))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        if tag == "select":
            self._select = ""
        elif tag == "textarea":
            self.fields[self._area] = self.fields.get(self._area, "").removeprefix("\n")
            self._area = ""
        elif tag == "form":
            self._form = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area] += data
        elif self._inside != "script":
            self.text += data

    def _keep(self, name: str, value: str) -> None:
        if name and self._form.endswith("_form"):
            self.fields[name] = value

    def _check(self, tag: str, attributes: dict[str, str]) -> None:
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        is_code = tag == "script" and "src" not in attributes and attributes.get("type", "text/javascript") not in (
            "application/json", "text/html",
        )  # fmt: skip
        addresses = [attributes.get(name, "") for name in ("href", "src", "action")]
        foreign = [url for url in addresses if url.startswith(("javascript:", "data:", "//", "http"))]
        if inline or is_code or tag == "style" or foreign:
            self.violations.append(self.get_starttag_text() or tag)


def messages_of(response: Any) -> list[str]:
    """Return what a page, reached at last by the redirects of a test client, tells its user."""
    return [str(message) for message in response.context["messages"]]


def fill(client: Any, url: str, **changes: str | None) -> Any:
    """Load a form as a browser does, change some fields (None unticks a box), post it, and follow the redirects."""
    fields = Page(client.get(url)).fields
    for name, value in changes.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    return client.post(url, {**fields, "_continue": "1"}, follow=True)


def errors(response: Any) -> dict[str, list[str]]:
    """Return the errors of the form on a page, by field."""
    return {name: list(texts) for name, texts in response.context["adminform"].form.errors.items()}
