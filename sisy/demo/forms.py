"""What a visitor may ask for. views.py uses it."""

from typing import Any

from django import forms

from sisy.demo.models import Report


class ReportForm(forms.Form):
    """Asks for a report; which one is the button that was pressed."""

    kind = forms.ChoiceField(choices=Report.Kind.choices, widget=forms.HiddenInput)
    text = forms.CharField(
        label="Your text",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Up to 20,000 characters.",
    )

    def clean(self) -> dict[str, Any]:
        """Refuse to count the words of nothing."""
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("kind") == Report.Kind.WORDS and not cleaned.get("text") and "text" not in self.errors:
            self.add_error("text", "Write or paste a text, so that there are words to count.")
        return cleaned
