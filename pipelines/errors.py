"""Every error the engine raises on purpose. The text is for the person at the page: no paths, no module names."""


class StudioError(Exception):
    """Something went wrong in a way that can be said in one plain sentence."""


class RequestError(StudioError):
    """A request that cannot be run as asked.

    field: name of the request's field, or "" when no single field is to blame.
    """

    def __init__(self, message: str, field: str = ""):
        super().__init__(message)
        self.field = field


class SettingsError(StudioError):
    """A setting that does not exist or cannot have the value given."""


class ModelError(StudioError):
    """A checkpoint that is missing, damaged or of a kind that is not supported."""


class OutOfMemory(StudioError):
    """The device has no room for the request, even in its smallest form."""


class EngineLost(StudioError):
    """The process that computed has ended; nothing else has."""


class Cancelled(StudioError):
    """The job was stopped; what was finished before is kept."""


class QueueFull(StudioError):
    """Too many jobs are waiting."""
