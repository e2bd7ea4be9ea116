"""Every error the application raises on purpose, with the exit code that systemd sees.

EdgeError                      70  a bug if it is raised itself
├── ConfigurationError         78  the site configuration is wrong; all its mistakes are listed at once
├── WorldError                 69  something outside this program failed; a restart may help
│   ├── SourceError            66  a camera or file cannot be opened or read; `SourcesError`: several
│   │   └── SourceRefusedError     66  the camera answers, and refuses: time alone does not mend it
│   ├── BrokerError            69  the MQTT broker cannot be reached
│   │   └── BrokerRefusedError      77  the MQTT broker refuses this client (password, certificate, ACL)
│   ├── UploadError            69  the store of crops cannot be reached, or keeps something else than was sent
│   │   └── UploadRefusedError      77  the store of crops refuses this node (keys, rights, bucket)
│   └── StoreError             74  the database cannot be opened or written
│       ├── StoreDamagedError      74  the file was damaged while it was open; the next start salvages it
│       └── StoreRefusedError      78  what lies at the store's path is not ours, or of a newer release
└── ModelError                 65  a model or bundle is missing, damaged or not what the configuration says

Exit codes follow sysexits.h. 65, 66, 77 and 78 do not get better by themselves: a systemd unit lists them in
`RestartPreventExitStatus`. A running node tries a broker that refuses again and again; only `check` leaves with 77. An
error of the contract (`edge_app.contract.errors`) leaves with 65.
"""


def one_line(text: object) -> str:
    """A text from anywhere as one line without control characters: what a file is called or a broker answers must
    neither begin a line of its own nor move the cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


class EdgeError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the process ends with, `lines` what is printed."""

    exit_code = 70

    @property
    def lines(self) -> list[str]:
        return [str(self)]


class ConfigurationError(EdgeError):
    """The site configuration is wrong. `problems` holds every mistake, one line each."""

    exit_code = 78

    def __init__(self, problems: list[str], where: str = "configuration") -> None:
        self.problems = problems
        count = f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}"
        self._lines = [f"{where}: {count}", *(f"  - {problem}" for problem in problems)]
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> list[str]:
        return self._lines


class WorldError(EdgeError):
    """Something outside this program failed; a restart may help."""

    exit_code = 69


class SourceError(WorldError):
    """A camera or file cannot be opened or read."""

    exit_code = 66


class SourceRefusedError(SourceError):
    """The camera answers, and refuses; or what it needs is not there. Only people mend that, so it is tried seldom.

    `login`: it refuses who asks, and every further try may lock the account.
    """

    def __init__(self, what: str, login: bool = False) -> None:
        super().__init__(what)
        self.login = login


class SourcesError(SourceError):
    """Several of them."""

    def __init__(self, problems: list[str]) -> None:
        self._lines = [f"{len(problems)} cameras could not be read to their end", *(f"  - {each}" for each in problems)]
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> list[str]:
        return self._lines


class BrokerError(WorldError):
    """The MQTT broker cannot be reached."""


class BrokerRefusedError(BrokerError):
    """The MQTT broker answered, and refuses this client."""

    exit_code = 77


class UploadError(WorldError):
    """The store of crops cannot be reached, or keeps something else than was sent."""


class UploadRefusedError(UploadError):
    """The store of crops answered, and refuses this node."""

    exit_code = 77


class StoreError(WorldError):
    """The database cannot be opened or written."""

    exit_code = 74


class StoreDamagedError(StoreError):
    """The database file was damaged while it was open; the next start carries over what can be read."""


class StoreRefusedError(StoreError):
    """What lies at the store's path is not a store, or one of a newer release; it is left alone."""

    exit_code = 78


class ModelError(EdgeError):
    """A model or bundle is missing, damaged or not what the configuration says."""

    exit_code = 65
