"""What the README says of the code is what the code does."""

from __future__ import annotations

from pathlib import Path

from killswitch.domain.trips import TRANSITIONS, Input, State, Verdict

README = Path(__file__).parent.parent / "README.md"


def state_table() -> str:
    """The table of transitions as Markdown, drawn from the dict that the code runs on."""
    lines = ["| from \\ input | " + " | ".join(i.name for i in Input) + " |", "|---" * (len(Input) + 1) + "|"]
    for state in State:
        cells = []
        for input_ in Input:
            target = TRANSITIONS[state, input_]
            same = isinstance(target, State) and target is state
            cells.append("same" if same else target.value if isinstance(target, Verdict) else target.name)
        lines.append(f"| {state.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_readmes_table_is_the_one_that_the_code_runs_on() -> None:
    text = README.read_text(encoding="utf-8")
    shown = text.split("<!-- table -->")[1].split("<!-- /table -->")[0].strip()
    assert shown == state_table(), "put this between the markers:\n" + state_table()


def test_the_two_commands_come_first() -> None:
    shell = README.read_text(encoding="utf-8").split("```sh", 1)[1].split("```", 1)[0]
    assert [line.split("#")[0].strip() for line in shell.strip().splitlines()] == ["make demo", "make test"]
