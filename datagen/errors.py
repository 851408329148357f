"""The ways in which work fails. A failed item is data: it ends as a row of the rejected table."""


class Failure(Exception):
    """Base of every failure that belongs to one item and must not stop the run.

    The class name is the code written to the rejected table; the message is its detail.
    """

    attempts: tuple[object, ...] = ()
    """Of a model call: every try of it (`llm.chat.Attempt`), for tries that fail are paid for too."""
    call_id: str = ""
    """Of a model call: as in `records.Call`."""
    calls: tuple[object, ...] = ()
    """The model calls (`records.Call`) that led to it, the failed one last."""


class Corrupt(Failure):
    """The material itself cannot be used: unreadable, empty, without a picture, too short."""


class Timeout(Failure):
    """The item took longer than its deadline and was stopped."""


class OutOfMemory(Failure):
    """The item needed more memory than a worker may use and was stopped."""


class Crashed(Failure):
    """The process working on the item died, or the step raised something unforeseen."""


class Provider(Failure):
    """A model endpoint or an object store failed after all retries."""


class Refused(Failure):
    """A model declined to answer; asking again would not help."""


class Invalid(Failure):
    """Text or data that does not keep to its format: a sidecar, a manifest row, a model's reply."""


class Rejected(Failure):
    """Well-formed, but not good enough: a check or a policy turned it away."""


class UsageError(Exception):
    """What the user asked for cannot be done. The message is one line: the place, the key, the fix."""


class OverBudget(Exception):
    """The next model call might cost more than is left to spend. It stops the run; nothing done is lost."""


class NoSpace(Exception):
    """The output cannot be written (disk full, quota, read-only). It stops the run; nothing done is lost."""


FAILURES: dict[str, type[Failure]] = {
    cls.__name__: cls
    for cls in (Corrupt, Timeout, OutOfMemory, Crashed, Provider, Refused, Invalid, Rejected)
}
"""Failure classes by the name that the ledger and the rejected table carry."""
