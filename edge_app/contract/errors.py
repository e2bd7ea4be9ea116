"""Errors of the contract: what trainer and edge both may have to refuse.

ContractError
├── InputSpecError     an image or an input description that cannot be preprocessed
├── HeadError          a detector's output that fits no known head, or more than one
├── MessageError       a message that does not follow the MQTT contract
├── ShardError         a shard of crops that was cut short, changed or made by somebody else
├── BundleError        a model bundle or manifest that is damaged, foreign or of another version
├── SelectionError     nobody can tell what is to be forgotten
├── LeaseLostError     the lock that this process had is, or may be, another's
└── ObjectStoreError   the site's store of objects did not do what it was asked
    ├── ObjectStoreAwayError     not reached, too slow, busy, full: time mends it, try again
    ├── ObjectStoreRefusedError  keys, rights, bucket, address, certificate: a person is needed
    ├── ObjectDamagedError       what arrived has another digest than what was sent
    ├── ObjectMissingError       there is no object of that name
    └── ObjectTakenError         the name has other content, or somebody changed it in between
"""


class ContractError(Exception):
    """Something does not follow the contract. The message says what was expected, what came, and what to do."""


class InputSpecError(ContractError):
    """An image or an input description that cannot be preprocessed."""


class HeadError(ContractError):
    """A detector's output that fits no known head, or more than one."""


class MessageError(ContractError):
    """A message that does not follow the MQTT contract."""


class ShardError(ContractError):
    """A shard of crops that was cut short, changed or made by somebody else."""


class BundleError(ContractError):
    """A model bundle or manifest that is damaged, foreign or of another version."""


class SelectionError(ContractError):
    """Nobody can tell what is to be forgotten. `problems` holds every mistake, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class LeaseLostError(ContractError):
    """The lock that this process had is, or may be, another's: what it does now must not count."""


class ObjectStoreError(ContractError):
    """The site's store of objects did not do what it was asked."""


class ObjectStoreAwayError(ObjectStoreError):
    """The store is not reached, too slow, busy or full: time mends it, try again."""


class ObjectStoreRefusedError(ObjectStoreError):
    """The store answers and refuses, or its settings are wrong: a person is needed."""


class ObjectDamagedError(ObjectStoreError):
    """What arrived has another digest than what was sent."""


class ObjectMissingError(ObjectStoreError):
    """There is no object of that name."""


class ObjectTakenError(ObjectStoreError):
    """The name has other content already, or somebody changed it in between."""
