"""Errors of the contract: what trainer and edge both may have to refuse.

ContractError
├── InputSpecError     an image or an input description that cannot be preprocessed
├── HeadError          a detector's output that fits no known head, or more than one
├── MessageError       a message that does not follow the MQTT contract
├── ShardError         a shard of crops that was cut short, changed or made by somebody else
└── BundleError        a model bundle or manifest that is damaged, foreign or of another version
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
