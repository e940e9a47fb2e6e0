"""What a check has found, as text for a terminal."""

from recbole_perpeft.report.data_check.findings import Findings

_WIDTH = 24  # of the names of figures


def as_text(findings: Findings) -> str:
    """Figures, then problems, those that end a run first."""
    lines = [f"Data set {findings.title}"]
    for section, figures in findings.sections.items():
        lines += ["", section, *(f"    {name:{_WIDTH}} {text}" for name, text in figures)]
    lines.append("")
    for kind in ("error", "warning"):
        lines += [f"{kind.upper():8} {problem.text}" for problem in findings.problems if problem.kind == kind]
    return "\n".join([*lines, verdict(findings)])


def verdict(findings: Findings) -> str:
    """How many problems there are, in a line."""
    numbers = [
        f"{n or 'no'} {kind}{'' if n == 1 else 's'}" for kind in ("error", "warning") for n in [findings.number(kind)]
    ]
    ends = "a run would fail" if findings.number("error") else "a run can begin"
    return f"{', '.join(numbers)}: {ends}".capitalize() + "."
