"""README and RUNBOOK: each shell block is run by a test or says why not, and each link within leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import anchors, blocks, links, printed

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "deploy" / "RUNBOOK.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_shell_block_is_run_or_says_why_not(document):
    found = blocks(document)

    assert found
    assert [block.where for block in found if not block.run and not block.why_not] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_a_document_leads_to_one_of_its_headings(document):
    assert set(links(document)) - set(anchors(document)) == set()


def test_a_block_is_read_with_its_mark_its_code_and_what_it_prints(tmp_path):
    file = tmp_path / "a.md"
    file.write_text(
        "# One\n\n<!-- run: calm, exit 3 -->\n```sh\na \\\n  b\n```\n\n```text\nfirst\n…\n```\n"
        "1. Step\n\n   <!-- not run: needs a host, and time -->\n   ```sh\n   c\n   ```\n"
        "\ntext\n\n```text\nno output\n```\n"
        "```sh\nnobody said\n```\n```toml\nx = 1\n```\n",
        "utf-8",
    )

    first, second, third = blocks(file)

    assert (first.command, first.run, first.exit, first.prints) == ("a \\\n  b\n", "calm", 3, "first\n…\n")
    assert (second.command, second.why_not, second.run, second.prints) == ("c\n", "needs a host, and time", "", "")
    assert (third.run, third.why_not, third.where) == ("", "", "a.md:25")


def test_anchors_are_those_of_github_and_links_are_found_over_line_ends(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("# It's 3 o'clock: go\n```sh\n# none\n```\n## Twice\n## Twice\n[to the\nend](#twice-1)\n", "utf-8")

    assert anchors(file) == ["its-3-oclock-go", "twice", "twice-1"]
    assert links(file) == ["twice-1"]


def test_what_is_printed_is_compared_line_by_line_with_gaps():
    output = "configuration: x\nDaemon ks-a: armed, ready\n\nTrips\n  none\n"

    assert printed("Daemon …: armed, ready\n…\n  none\n", output)
    assert printed("… armed, ready\n", output)
    assert printed("Daemon ks-a: armed, ready Trips none\n", output)
    assert not printed("Daemon ks-a: armed\n", output)
    assert not printed("Trips\n  nothing\n", output)
    assert not printed("Trips\n…\nDaemon …\n", output)
