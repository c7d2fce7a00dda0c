"""The page as a document: one file, nothing from elsewhere, and a policy that names exactly what it runs."""

from __future__ import annotations

import base64
import hashlib
import re

from killswitch.board import page

DOCUMENT = page().document.decode()
POLICY = page().policy


def test_the_policy_lets_exactly_the_two_blocks_of_the_page_run():
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (block,) = re.findall(f"<{tag}>(.*?)</{tag}>", DOCUMENT, re.DOTALL)
        assert len(block) > 1000
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert "unsafe" not in POLICY


def test_the_page_brings_nothing_from_elsewhere_and_has_nothing_that_its_policy_would_refuse():
    assert "://" not in DOCUMENT
    assert not re.search(r"<[^>]+\s(style|on\w+)=", DOCUMENT)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", DOCUMENT)
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', DOCUMENT)


def test_every_state_word_stands_on_the_page():
    words = set(re.findall("[a-z]+", DOCUMENT.lower()))
    assert {"armed", "sweeping", "confirmed", "escalated", "unknown", "lost", "shadow", "drill"} <= words


def test_every_label_is_for_a_field_and_every_reference_names_something_that_is_there():
    ids = re.findall(r'\bid="([^"]+)"', DOCUMENT)
    assert len(ids) == len(set(ids))
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        assert set(re.findall(rf'\b{attribute}="([^"]+)"', DOCUMENT)) <= set(ids)
    for field in re.findall(r'<(?:input|select) id="([^"]+)"', DOCUMENT):
        assert f'<label for="{field}">' in DOCUMENT
    assert {i for i in re.findall(r'byId\("([^"]+)"\)', DOCUMENT) if not i.endswith("-")} <= set(ids)
