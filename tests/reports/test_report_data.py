"""Reports without their optional parts."""

from dataclasses import FrozenInstanceError, replace

import pytest

from tests.helpers.classifier_report import sample_report
from tests.helpers.html_page import Page
from transxnet.reports import render


def test_report_without_image_function_shows_placeholders():
    text = render(replace(sample_report(), image=None))
    assert text.count(">unreadable image<") == 12 and "<img" not in text


def test_report_without_notes_and_environment_date():
    page = Page(render(replace(sample_report(), notes=[], environment={"torch": "2.11.0"})))
    assert "No settings were chosen automatically." in page.text["notes"]
    assert "2026-01-02" not in page.text["p"] and "Training report." in page.text["p"]


def test_reports_are_immutable():
    with pytest.raises(FrozenInstanceError):
        sample_report().title = "other"
