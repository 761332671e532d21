"""What the answers of providers, the object store and the ledger mean. Pure."""

from collections.abc import Iterator

from rotoscope.cli.doctor.network import NetworkFacts, ProviderFacts, StoreFacts
from rotoscope.cli.doctor.records import Finding, ok, problem, warning
from rotoscope.store.health import LedgerHealth

__all__ = ["check_ledger", "check_manifests", "check_network", "check_proxies", "check_store"]

_MAX_SKEW = 60.0  # seconds: webhooks and signed addresses are refused beyond some minutes
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 401, 403, 429
_REDIRECTS, _ERRORS, _BROKEN = range(300, 400), range(400, 500), range(500, 600)


def check_proxies(described: tuple[str, ...], fault: tuple[str, str] | None) -> Iterator[Finding]:
    """Through which proxies requests go.

    Args:
        described: the proxies, without passwords.
        fault: why what the environment says of them cannot be used, and what to do.
    """
    if fault is not None:
        yield problem("providers", "proxy", *fault)
    elif described:
        yield ok("providers", "proxy", f"Requests go {' and '.join(described)}, but for what NO_PROXY names.")
    else:
        yield ok("providers", "proxy", "No proxy is set: requests go out directly.")


def check_network(facts: NetworkFacts) -> Iterator[Finding]:
    """Who serves, the keys, whether providers can be reached, and the clock."""
    for message, hint in facts.faults:
        yield problem("providers", "keys", message, hint)
    yield from _check_serving(facts)
    for one in facts.providers:
        yield from _check_variables(one)
        if one.question != "not asked":
            yield _check_answer(one, facts.sandbox)
        elif facts.is_offline and one.has_key and not facts.sandbox:
            key = f"{one.title}: a key is set ({one.variable}); not asked."
            yield ok("providers", f"provider.{one.name}", key)
    yield from _check_clock(facts)


def _check_serving(facts: NetworkFacts) -> Iterator[Finding]:
    given = [one.title for one in facts.providers if one.has_key]
    if facts.uses_own_keys:
        yield ok("providers", "serving", "Each principal uses keys of its own (ROTOSCOPE_KEYS=principal).")
    elif facts.sandbox == "built-in" and given:
        yield warning(
            "providers", "serving", f"The sandbox serves all models although a key is set ({', '.join(given)}).",
            "Unset ROTOSCOPE_SANDBOX to use the key.",
        )  # fmt: skip
    elif facts.sandbox == "built-in":
        variables = ", ".join(one.variable for one in facts.providers if not one.missing)
        yield warning(
            "providers", "serving", "No provider's key is set: the built-in sandbox serves every model.",
            f"That is fine for trying. For the models themselves set a key: {variables}.",
        )  # fmt: skip
    elif facts.sandbox:
        yield warning(
            "providers", "serving", f"A sandbox at {facts.sandbox} serves every model.",
            "Unset ROTOSCOPE_SANDBOX to use providers.",
        )  # fmt: skip
    elif not given:
        yield problem(
            "providers", "serving", "No provider's key is set, and ROTOSCOPE_SANDBOX=never: no model can be used.",
            "Set a key, or unset ROTOSCOPE_SANDBOX.",
        )  # fmt: skip
    else:
        yield ok("providers", "serving", f"Models run at {', '.join(given)}.")


def _check_variables(one: ProviderFacts) -> Iterator[Finding]:
    if one.unexpanded:
        yield warning(
            "providers", f"variables.{one.name}",
            f"{', '.join(one.unexpanded)} holds the name of a variable in place of a key, so it counts as not set.",
            "Your client does not fill it in: write the key itself into its settings, or leave the variable out.",
        )  # fmt: skip
    if one.has_key and one.missing:
        yield warning(
            "providers", f"variables.{one.name}",
            f"{one.variable} is set, and {' and '.join(one.missing)} is not: {one.title} is not used.",
            f"Set {' and '.join(one.missing)}.",
        )  # fmt: skip


def _check_answer(one: ProviderFacts, sandbox: str) -> Finding:
    check, is_sandbox = f"provider.{one.name}", sandbox.startswith("http")
    who = f"The sandbox at {sandbox}" if is_sandbox else f"{one.title} ({one.host})"
    how = problem if is_sandbox or not sandbox else warning  # what the built-in sandbox does needs no provider
    if one.status is None:
        advice = f"Check the network, the proxy and the base URL of {one.title}, then run rotoscope doctor again."
        return how("providers", check, f"{who}: {one.failure}", advice)
    if one.status in _REDIRECTS:
        where = f" to {one.location}" if one.location else ""
        return how(
            "providers", check, f"{who} answers with a redirect{where}, which is not followed: a key would go there.",
            f"Correct the base URL of {one.title}, or ask who runs the network.",
        )  # fmt: skip
    if one.status in _BROKEN:
        return warning(
            "providers", check, f"{who} answers that it is broken (HTTP {one.status}).", "Try again in some minutes."
        )
    if is_sandbox:
        return ok("providers", check, f"{who} answers.")
    if one.question == "reach":
        return ok("providers", check, f"{who} can be reached; its key ({one.variable}) is not set.")
    return _judge_key(one, who, check)


def _judge_key(one: ProviderFacts, who: str, check: str) -> Finding:
    words = f" It says: {one.words!r}" if one.words else ""
    if one.status == _UNAUTHORIZED:
        return problem(
            "providers", check, f"{who} does not accept the key in {one.variable}.{words}",
            f"Make a new key at {one.title} and set {one.variable} to it.",
        )  # fmt: skip
    if one.is_out_of_credit:
        return problem(
            "providers", check, f"{who} knows the key, and its account has no credit.{words}",
            f"Add credit at {one.title}.",
        )  # fmt: skip
    if one.status == _TOO_MANY:
        return warning("providers", check, f"{who} takes no more requests now (HTTP 429).", "Try again in a minute.")
    if one.question == "list":
        return _judge_list(one, who, check, words)
    if one.status == _FORBIDDEN:
        return warning(
            "providers", check, f"{who} may not accept the key in {one.variable} (HTTP 403).{words}",
            f"Look at the key's rights at {one.title}.",
        )  # fmt: skip
    return ok("providers", check, f"{who} answers; it has no free request that proves its key.")


def _judge_list(one: ProviderFacts, who: str, check: str, words: str) -> Finding:
    """The list is what a lost reply is found by, so a key that may not read it is worth a warning."""
    if one.status == _FORBIDDEN:
        return warning(
            "providers", check, f"{who} does not let the key in {one.variable} list its runs (HTTP 403).{words}",
            "A run whose reply is lost is then not found by itself. Use a key with all rights, or make a new one.",
        )  # fmt: skip
    if one.status in _ERRORS:
        return warning(
            "providers", check, f"{who} does not give the list of runs (HTTP {one.status}).{words}",
            f"Check the base URL of {one.title}.",
        )  # fmt: skip
    return ok("providers", check, f"{who} accepts the key in {one.variable}.")


def _check_clock(facts: NetworkFacts) -> Iterator[Finding]:
    skews = [one.clock_skew for one in facts.providers if one.clock_skew is not None]
    if not skews:
        return
    least = min(skews, key=abs)  # a cache may give an old date; no reply comes from the future
    if abs(least) > _MAX_SKEW:
        which = "behind" if least > 0 else "ahead"
        yield warning(
            "providers", "clock", f"This machine's clock is {abs(least):.0f} s {which}, by the providers' replies.",
            "Set it by NTP: signed addresses and webhooks are refused when clocks differ.",
        )  # fmt: skip
    else:
        yield ok("providers", "clock", "The clock agrees with the providers' within a minute.")


def check_manifests(problems: tuple[str, ...], models: int) -> Iterator[Finding]:
    """The manifests of one's own that were left out."""
    for number, one in enumerate(problems):
        yield warning(
            "settings",
            f"manifest.{number}",
            f"A manifest is left out: {one}",
            "Run rotoscope models check on the file.",
        )
    if not problems:
        yield ok("settings", "manifests", f"{models} models are described, and every manifest can be used.")


def check_store(facts: StoreFacts | None, *, is_offline: bool) -> Iterator[Finding]:
    """Whether the object store takes results."""
    if facts is None:
        return
    if facts.fault:
        yield problem("providers", "object_store", facts.fault, facts.hint or "Correct ROTOSCOPE_STORE_URL.")
    else:
        how = "is set; not asked" if is_offline else "answers"
        yield ok("providers", "object_store", f"The object store {facts.url} {how}.")


def check_ledger(health: LedgerHealth) -> Iterator[Finding]:
    """Whether the ledger can be used and is whole, and which of its jobs need somebody."""
    name = f"The ledger ({health.kind}{f' {health.server}' if health.server else ''}, {health.place})"
    if health.fault:
        yield problem("ledger", "ledger", health.fault, health.hint or f"Look at {health.place}.")
        return
    if not health.exists:
        yield ok("ledger", "ledger", f"{name} is made with the first job.")
        return
    if health.schema < health.known_schema:
        yield ok("ledger", "ledger", f"{name} opens; the next start brings it from version {health.schema} to "
                                     f"{health.known_schema}.")  # fmt: skip
    else:
        yield ok("ledger", "ledger", f"{name} opens, at version {health.schema}.")
    yield from _check_pages(health)
    yield from _check_jobs(health)


def _check_pages(health: LedgerHealth) -> Iterator[Finding]:
    if health.integrity == "damaged":
        yield problem(
            "ledger", "ledger_pages", f"The ledger is damaged: {health.damage}.",
            "End every rotoscope process, and put a copy back or move the file away; results in the vault stay.",
        )  # fmt: skip
    elif health.integrity == "unfinished":
        yield ok(
            "ledger", "ledger_pages", "It is too large to be checked whole in the time there is; so far it is fine."
        )
    elif health.integrity == "whole":
        yield ok("ledger", "ledger_pages", "SQLite's quick check finds it whole.")


def _check_jobs(health: LedgerHealth) -> Iterator[Finding]:
    if health.schema != health.known_schema or health.integrity == "damaged":
        return
    if health.reviews:
        yield warning(
            "ledger", "reviews", f"{_count(health.reviews, 'job')} may have been paid for and wait for you: "
            f"{', '.join(health.review_ids)}.",
            "rotoscope jobs show JOB says what to check; then rotoscope jobs resolve JOB.",
        )  # fmt: skip
    else:
        yield ok("ledger", "reviews", "No job waits for a review.")
    if health.idle and not health.drivers:
        yield warning(
            "ledger", "drivers", f"{_count(health.idle, 'job')} are open and no process drives them: "
            f"{', '.join(health.idle_ids)}.",
            "Run rotoscope jobs drive, or start a client: its server takes them up.",
        )  # fmt: skip
    else:
        waiting = f", {health.idle} of them wait for their turn" if health.idle else ""
        yield ok("ledger", "drivers", f"{_count(health.open, 'job')} open{waiting}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
