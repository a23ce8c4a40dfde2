"""Every error that GroundQL raises on purpose.

GroundqlError                     the work failed: exit status 1
├── AskedWrongly                  the command, a setting or an input file is wrong: exit status 2
│   ├── SettingError              an unknown or impossible setting
│   ├── DataError                 a data file that cannot be read: names the file and the line
│   │   └── DatabaseMissing       a database or schema that is not there
│   └── ModelMissing              a model folder, file or name that holds no weights
├── NotInDialect                  a query that has no form in the canonical dialect
├── PromptTooLong                 a prompt that does not fit even after everything that may shrink has
├── TrainingStopped               training could not go on: non-finite steps, memory, disk
└── DependencyMissing             an optional package that this verb needs

What a model wrote is never an exception: it is an `Outcome` or a `Verdict`.
"""


class GroundqlError(Exception):
    """The work failed. The message names the thing, what is wrong and the next step."""

    exit_status = 1


class AskedWrongly(GroundqlError):
    """The command, a setting or an input file is wrong."""

    exit_status = 2


class SettingError(AskedWrongly):
    """An unknown or impossible setting."""


class DataError(AskedWrongly):
    """A data file that cannot be read; the message names the file and the line."""


class DatabaseMissing(DataError):
    """A database or schema that is not there."""


class ModelMissing(AskedWrongly):
    """A model folder, file or name that holds no weights."""


class NotInDialect(GroundqlError):
    """A query that has no form in the canonical dialect; the message is the reason, in one sentence."""


class PromptTooLong(GroundqlError):
    """A prompt that does not fit even after everything that may shrink has."""


class TrainingStopped(GroundqlError):
    """Training could not go on."""


class DependencyMissing(GroundqlError):
    """An optional package that this verb needs is not installed."""
