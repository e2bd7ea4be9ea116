"""Every error the application raises on purpose, with the exit code that systemd sees.

EdgeError                      70  a bug if it is raised itself
├── ConfigurationError         78  the site configuration is wrong; all its mistakes are listed at once
├── WorldError                 69  something outside this program failed; a restart may help
│   ├── SourceError            66  a camera or file cannot be opened or read
│   ├── BrokerError            69  the MQTT broker cannot be reached
│   │   └── BrokerRefusedError      77  the MQTT broker refuses this client (password, certificate, ACL)
│   └── StoreError             74  the database cannot be opened or written
└── ModelError                 65  a model or bundle is missing, damaged or not what the configuration says

Exit codes follow sysexits.h. 65, 66, 77 and 78 do not get better by themselves: a systemd unit lists them in
`RestartPreventExitStatus`. A running node tries a broker that refuses again and again; only `check` leaves with 77. An
error of the contract (`edge_app.contract.errors`) leaves with 65.
"""


class EdgeError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the process ends with."""

    exit_code = 70


class ConfigurationError(EdgeError):
    """The site configuration is wrong. `problems` holds every mistake, one line each."""

    exit_code = 78

    def __init__(self, problems: list[str], where: str = "configuration") -> None:
        self.problems = problems
        count = f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}"
        super().__init__(f"{where}: {count}\n" + "\n".join(f"  - {problem}" for problem in problems))


class WorldError(EdgeError):
    """Something outside this program failed; a restart may help."""

    exit_code = 69


class SourceError(WorldError):
    """A camera or file cannot be opened or read."""

    exit_code = 66


class BrokerError(WorldError):
    """The MQTT broker cannot be reached."""


class BrokerRefusedError(BrokerError):
    """The MQTT broker answered, and refuses this client."""

    exit_code = 77


class StoreError(WorldError):
    """The database cannot be opened or written."""

    exit_code = 74


class ModelError(EdgeError):
    """A model or bundle is missing, damaged or not what the configuration says."""

    exit_code = 65
