"""Every error the trainer raises on purpose, with the exit code of the command.

TrainerError                   70  a bug if it is raised itself
├── ConfigurationError         78  a training configuration or an argument is wrong; all mistakes are listed at once
├── WorldError                 69  something outside this program failed: disk full, no permission, no such device
└── DataError                  65  the data cannot be used: empty, damaged, of another layout, without a true match
    ├── LabelsError            65  the clusters of an epoch teach nothing
    └── NothingLearnedError     3  the crops teach nothing, or the trained network is no better: the start is kept

Exit codes follow sysexits.h. A message says what was expected, what came, and what to do.
"""


class TrainerError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command ends with."""

    exit_code = 70


class ConfigurationError(TrainerError):
    """A configuration or an argument is wrong. `problems` holds every mistake, one line each."""

    exit_code = 78

    def __init__(self, problems: list[str], where: str = "configuration") -> None:
        self.problems = problems
        count = f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}"
        super().__init__(f"{where}: {count}\n" + "\n".join(f"  - {problem}" for problem in problems))


class WorldError(TrainerError):
    """Something outside this program failed; trying again may help once it is put right."""

    exit_code = 69


class DataError(TrainerError):
    """The data cannot be used."""

    exit_code = 65


class LabelsError(DataError):
    """Clusters from which nothing can be learned: fewer than two."""


class NothingLearnedError(DataError):
    """There is nothing to learn from these crops, or nothing was: no failure of a program, and trying again with the
    same crops does not help. A run that says so has left the network it began with as its model."""

    exit_code = 3
