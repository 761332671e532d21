"""Everything that can go wrong, as one tree.

    RotoscopeError
      UserMistake          the arguments; nothing was sent, nothing was spent
        InvalidInput       a value is wrong, or the provider said so before it ran anything
        UnsafeSource       a path or URL that we do not read
        TooLarge           more bytes, pixels or seconds than we or the model take
          WorkerLost       the process that read it was ended by something else than our limits
        UnknownModel       no such model
        UnknownJob         no such job
      MissingKey           names the variable to set
      OverBudget           a spending cap would be passed
      StillChecking        no failure: the request is still being checked when its client must be answered
      ProviderError        the provider answered no, or not at all
        Refused            401, 403: the key is not accepted
        OutOfCredit        the account has no money left
        Busy               429: too many requests
        ProviderDown       5xx, or an answer that cannot be read
          Unreachable      no connection: nothing was sent
          ReplyLost        the request went out, the reply did not come back
      PredictionFailed     the model ran and failed; carries the provider's words as data
      SubmitUnsure         nobody can know whether money was spent; carries what to check
      OutputLost           the result exists, or existed, and cannot be fetched
        SlowHost           its host gives it too slowly to wait for
      Timeout              the run took too long, or was out of sight until its result was gone
      StorageFailed        our ledger or vault could not be read or written

Every error has a stable `code` (a contract), a `message` of one sentence in our own words and a `hint`:
one sentence on what to do next. `assets/errors.md` says for people what each code means. Foreign exceptions are
translated only where they enter: HTTP in `providers.http.client`, SQL in `store.database`, images and files in `media`.
"""

__all__ = [
    "Busy",
    "InvalidInput",
    "MissingKey",
    "OutOfCredit",
    "OutputLost",
    "OverBudget",
    "PredictionFailed",
    "ProviderDown",
    "ProviderError",
    "Refused",
    "ReplyLost",
    "RotoscopeError",
    "SlowHost",
    "StillChecking",
    "StorageFailed",
    "SubmitUnsure",
    "Timeout",
    "TooLarge",
    "UnknownJob",
    "UnknownModel",
    "Unreachable",
    "UnsafeSource",
    "UserMistake",
    "WorkerLost",
]


class RotoscopeError(Exception):
    """The root: a code for programs, a sentence and a next step for people."""

    code = "error"

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, provider_message: str | None = None
    ) -> None:
        """Describe what went wrong.

        Args:
            message: one sentence in our own words.
            hint: one sentence on what to do next; may be empty.
            code: the stable code, when it differs from that of the class.
            provider_message: the provider's own words, kept apart because they are not trusted text.
        """
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.provider_message = provider_message
        if code is not None:
            self.code = code


class UserMistake(RotoscopeError):
    """The arguments are wrong; nothing was sent and nothing was spent."""

    code = "invalid_argument"


class InvalidInput(UserMistake):
    """A value that we, or the provider before it ran anything, cannot use."""


class UnsafeSource(UserMistake):
    """A path or an address that is not read."""

    code = "path_denied"


class TooLarge(UserMistake):
    """More bytes, pixels or seconds than we or the model take."""

    code = "too_large"


class WorkerLost(TooLarge):
    """The process that read a file was ended from outside, mostly for want of memory: it may work another time."""


class UnknownModel(UserMistake):
    """No model of that name, or none that fits."""

    code = "unknown_model"


class UnknownJob(UserMistake):
    """No job of that id."""

    code = "unknown_job"


class MissingKey(RotoscopeError):
    """The provider's key is not set; the message names the variable.

    `providers` are those of which any one key would do, where the principal may give one.
    """

    code = "auth"

    def __init__(self, message: str, *, hint: str = "", providers: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.providers = providers


class OverBudget(RotoscopeError):
    """A spending cap would be passed."""

    code = "budget"


class StillChecking(RotoscopeError):
    """A request is still being checked when its client must be answered; nothing was sent, nothing was spent."""

    code = "still_checking"


class ProviderError(RotoscopeError):
    """The provider answered no, or not at all."""

    code = "provider_error"


class Refused(ProviderError):
    """The provider does not accept the key."""

    code = "auth"


class OutOfCredit(ProviderError):
    """The provider's account has no money left."""

    code = "provider_credit"


class Busy(ProviderError):
    """Too many requests; `retry_after` is the number of seconds the provider asked us to wait, if it said so."""

    code = "rate_limited"

    def __init__(
        self, message: str, *, hint: str = "", provider_message: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, provider_message=provider_message)
        self.retry_after = retry_after


class ProviderDown(ProviderError):
    """A 5xx, or an answer that cannot be read."""


class Unreachable(ProviderDown):
    """No connection was made: nothing was sent, so nothing was spent."""

    code = "provider_unreachable"


class ReplyLost(ProviderDown):
    """The request went out and its reply did not come back whole."""


class PredictionFailed(RotoscopeError):
    """The model ran and failed, or gave something that is no result."""

    code = "prediction_failed"


class SubmitUnsure(RotoscopeError):
    """Nobody can know whether money was spent; the hint says what to check."""

    code = "submit_unknown"


class OutputLost(RotoscopeError):
    """The result exists, or existed, and cannot be fetched."""

    code = "download_failed"


class SlowHost(OutputLost):
    """The host of a file gives it, but too slowly to wait for."""


class Timeout(RotoscopeError):
    """A run was stopped because it took too long, or could not be asked about until its result was surely gone."""

    code = "timeout"


class StorageFailed(RotoscopeError):
    """Our ledger or vault could not be read or written."""

    code = "storage"
