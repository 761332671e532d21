"""Our code for a failed run, from the provider's error text. Pure.

Providers report as "failed" what needs four different next steps: their content policy, an input that cannot be used, a
fault of their own that may pass, and a model that broke. Only the text tells them apart. The patterns are from
https://replicate.com/docs/reference/error-codes, from public logs of runs (Replicate's `E005` and `code: PA`),
from the error pages of Volcengine, whose words Seedance passes on, and from fal's table of error types.
"""

import re
from collections.abc import Mapping

__all__ = ["NEXT_STEPS", "POLICY", "failure_code", "failure_message", "is_out_of_credit", "is_policy"]

POLICY = "content_policy"

_POLICY_WORDS = re.compile(
    r"\(E005\)|\bflagged\b|\bNSFW\b|content[ _-]?(policy|filter|moderation|violation|checker)|moderation|moderated"
    r"|safety[ _-]?(check|filter|policy|system|guideline|violation)|policy[ _-]?violation|violat\w* .{0,40}\bpolic"
    r"|sensitive[ _-]?(content|information|material)|copyright restriction|prohibited content|inappropriate content",
    re.IGNORECASE,
)
_TRANSIENT_WORDS = re.compile(
    r"please (retry|try again)\b(?! with)|\bcode: PA\b|prediction interrupted|\b(E1000|E6716|E8367|E8765|E9243)\b"
    r"|temporarily unavailable|service unavailable|(server|model|system|service) is (busy|overloaded)|at capacity",
    re.IGNORECASE,
)
_MEDIA_NOUN = r"(image|picture|video|audio|mask|file|media|url|input)s?\b"
_INPUT_WORDS = re.compile(
    r"input validation error|validation errors? for (?!\w*(output|response))"
    r"|\binvalid[ _](input|image|video|audio|mask|url|file|prompt)|\bE006\b"
    r"|(fail\w*|unable|could ?n[o']t|cannot|can't|error) (to |in )?(download|fetch|load|open|read|decod|retriev)\w*"
    rf"(?!.{{0,80}}\b(weights?|checkpoints?|models?|tokenizer|librar\w+)\b) .{{0,80}}?{_MEDIA_NOUN}"
    r"|\b(400|401|403|404|410|4\d\d) client error|http ?error:? (401|403|404|410)|cannot identify image file"
    r"|(file|image|video|audio)[ _](download|load)[ _]error|unsupported (image|video|audio|file|media)"
    r"|(image|video|audio|file)s? (is|are|was|were) (too (large|small|long|short)|corrupt)|unsupported protocol",
    re.IGNORECASE,
)
_CREDIT_WORDS = re.compile(
    r"insufficient[ _](user[ _])?(quota|credits?|balance|funds)|pre_consume_token_quota_failed|exhausted balance"
    r"|top[_ ]up|(not enough|out of|no) (credits?|balance|quota)\b|quota[ _](exceeded|exhausted|not[ _]enough)"
    r"|billing required|额度不足|余额不足|arrearage|account[ _]overdue",
    re.IGNORECASE,
)

_MESSAGES: Mapping[str, str] = {
    POLICY: "The provider's content policy refused the run.",
    "invalid_input": "The model does not accept the input.",
    "provider_error": "The provider broke the run off.",
    "provider_credit": "The provider's account has no credit left.",
    "prediction_failed": "The model ran and failed.",
}

NEXT_STEPS: Mapping[str, str] = {
    POLICY: "Change the prompt or the media: the same request is refused again.",
    "invalid_input": "Change what the provider names, and check that every address can be opened by anybody.",
    "provider_error": "It is no fault of the request: call again; the same request may succeed.",
    "rate_limited": "Call again later; the same request may succeed.",
    "provider_credit": "Add credit at the provider, then call again.",
    "provider_protocol": "Look at the run at the provider, or try another model.",
    "prediction_failed": "Change the request, or try another model.",
}
"""The next step after a failed run, by our code."""


def failure_code(text: str | None) -> str:
    """Our code for a run that failed with this text; `prediction_failed` where it says nothing more.

    A passing fault is looked for before an input error: "failed to load the model; please retry" is the provider's own.
    Policy is looked for before both: "flagged as sensitive. Please try again with different inputs" will not pass.
    """
    text = text or ""
    if is_policy(text):
        return POLICY
    if is_out_of_credit(text):
        return "provider_credit"
    if _TRANSIENT_WORDS.search(text):
        return "provider_error"
    return "invalid_input" if _INPUT_WORDS.search(text) else "prediction_failed"


def failure_message(code: str) -> str:
    """The sentence that explains one of our codes."""
    return _MESSAGES.get(code, _MESSAGES["prediction_failed"])


def is_policy(text: str | None) -> bool:
    """Whether an error text or a provider's error type is about a content policy."""
    return bool(_POLICY_WORDS.search(text or ""))


def is_out_of_credit(text: str | None) -> bool:
    """Whether an error text or a provider's error type says that the account has no money left."""
    return bool(_CREDIT_WORDS.search(text or ""))
