"""The pages of sign-in and consent, as HTML without script. Pure: text in, a response out.

Every value is escaped here. The policy forbids script, frames and forms to anywhere but where they belong: browsers
apply `form-action` to the redirect that follows a form too, so a consent page names where its answer leads.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from starlette.responses import HTMLResponse, Response

from rotoscope.contracts.characters import one_line
from rotoscope.server.sign_in.people.redirects import RedirectTarget

__all__ = [
    "BackLink",
    "ConsentView",
    "FormView",
    "build_page",
    "consent_page",
    "link_page",
    "message_page",
    "sign_in_page",
]

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5a6472;--line:#d5dae1;--page:#f3f5f8;--card:#fff;--accent:#1f5fd6;
--on-accent:#fff;--warn-ink:#7a4b00;--warn:#fff4dc;--bad-ink:#9b1c1c;--bad:#fdecec;--good-ink:#14633a}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#9aa5b4;--line:#39414c;--page:#14171b;--card:#1d2126;
--accent:#7aa7ff;--on-accent:#0c1a33;--warn-ink:#ffd58a;--warn:#3a2d12;--bad-ink:#ffb4b4;--bad:#3d1d1d;
--good-ink:#7fd6a4}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;align-items:center;justify-content:center;padding:1rem;
background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:27rem;background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:1.75rem 1.5rem;overflow-wrap:anywhere}
header{display:flex;align-items:center;gap:.6rem;color:var(--soft);font-size:.9rem;margin-bottom:1.1rem}
svg{width:1.7rem;height:1.7rem;color:var(--accent);flex:none}
h1{font-size:1.3rem;line-height:1.3;margin:0 0 .75rem}
p{margin:.5rem 0}
.soft{color:var(--soft);font-size:.9rem}
label{display:block;margin:.9rem 0 .3rem;font-weight:600;font-size:.95rem}
input{width:100%;font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:9px;
padding:.65rem .75rem}
button{width:100%;font:inherit;font-weight:600;border-radius:9px;padding:.7rem 1rem;margin-top:1rem;cursor:pointer;
border:1px solid var(--accent);background:var(--accent);color:var(--on-accent)}
button.plain{background:transparent;color:var(--ink);border-color:var(--line);margin-top:.6rem}
button.link{width:auto;padding:0;margin:0;border:0;background:none;color:var(--accent);font-weight:400;font-size:.9rem;
text-decoration:underline}
input:focus-visible,button:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
dl{margin:1rem 0;border:1px solid var(--line);border-radius:10px}
dl div{padding:.6rem .8rem}
dl div+div{border-top:1px solid var(--line)}
dt{color:var(--soft);font-size:.82rem}
dd{margin:0}
ul{margin:.3rem 0 .3rem 1.1rem;padding:0}
.warn,.bad{border-radius:10px;padding:.65rem .8rem;margin:.9rem 0;font-size:.93rem}
.warn{background:var(--warn);color:var(--warn-ink)}
.bad{background:var(--bad);color:var(--bad-ink)}
a{color:var(--accent)}
.good{color:var(--good-ink)}
.who{display:flex;flex-wrap:wrap;gap:.4rem;align-items:baseline;margin-top:1.2rem;color:var(--soft);font-size:.9rem}
.who form{display:inline}
""".strip().replace("\n", "")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_MARK = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path fill="none" stroke="currentColor" stroke-width="1.8" '
    'd="M4 5h16v14H4zM8 5v14M16 5v14M4 9.7h4M4 14.3h4M16 9.7h4M16 14.3h4"/></svg>'
)
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - rotoscope</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
    "<style>{style}</style></head><body><main><header>{mark}<span>rotoscope</span></header>{body}</main></body></html>"
)


@dataclass(frozen=True, slots=True)
class FormView:
    """A form.

    Attributes:
        action: where it goes: a path of ours with its query.
        token: the token of the form.
    """

    action: str
    token: str


@dataclass(frozen=True, slots=True)
class BackLink:
    """A way back to a client: an address that was checked, and where it leads in words."""

    url: str
    words: str


@dataclass(frozen=True, slots=True)
class ConsentView:
    """What a person must know before they let a client in.

    Attributes:
        person: on whose behalf it would act.
        client: what it calls itself; None: nothing.
        host: the https host that vouches for it; None: nobody does.
        destination: where the browser is sent.
        decide: the form of the decision.
        leave: the form that signs out.
    """

    person: str
    client: str | None
    host: str | None
    destination: RedirectTarget
    decide: FormView
    leave: FormView


def sign_in_page(form: FormView, client: str | None, problem: str | None = None, status: int = 200) -> Response:
    """The page on which a person gives name and passphrase.

    Args:
        form: where they go.
        client: what the client calls itself that has sent them here.
        problem: what is wrong with what was given before.
        status: of HTTP.
    """
    why = f"<p>to connect <strong>{_text(client)}</strong></p>" if client else ""
    wrong = f'<p class="bad" role="alert">{_text(problem)}</p>' if problem else ""
    body = f"""<h1>Sign in</h1>{why}{wrong}<form method="post" action="{escape(form.action)}">{_hidden(form)}
<label for="name">Name</label><input id="name" name="name" autocomplete="username" autocapitalize="none"
 spellcheck="false" maxlength="128" required autofocus>
<label for="passphrase">Passphrase</label><input id="passphrase" name="passphrase" type="password"
 autocomplete="current-password" maxlength="256" required><button>Sign in</button></form>
<p class="soft">If you have a sign-in link instead, open it in this browser; it leads back to here.</p>"""
    return _page("Sign in", body, status=status)


def consent_page(view: ConsentView) -> Response:
    """The page on which a person lets a client in, or does not."""
    name = _text(view.client) if view.client else "An app without a name"
    allowed = _list(
        "run models on pictures and videos, which may cost money within this server's limits",
        "see and cancel your jobs, and read their results",
        "bring in files for them",
    )
    body = f"""<h1>Let {name} in?</h1><dl><div><dt>It may, on your behalf,</dt><dd>{allowed}</dd></div>
<div><dt>Who it is</dt><dd>{_vouching(view)}</dd></div>
<div><dt>Your browser then goes to</dt><dd>{_text(view.destination.words)}</dd></div></dl>{_warning(view)}
<form method="post" action="{escape(view.decide.action)}">{_hidden(view.decide)}
<button name="decision" value="allow">Allow</button>
<button class="plain" name="decision" value="deny">Do not allow</button></form>{_who(view)}"""
    return _page(f"Let {view.client or 'an app'} in?", body, sources=("'self'", view.destination.source))


def link_page(form: FormView, person: str) -> Response:
    """The page behind a one-time link. Opening it uses nothing up: mail programs open links too."""
    body = f"""<h1>Sign in as {_text(person)}</h1><p>This link works once, in this browser.</p>
<form method="post" action="{escape(form.action)}">{_hidden(form)}<button>Sign in as {_text(person)}</button></form>"""
    return _page("Sign in", body)


def message_page(
    title: str, words: str, status: int = 200, leave: FormView | None = None, back: BackLink | None = None
) -> Response:
    """A page that only says something.

    Args:
        title: what has happened.
        words: more of it, and what to do next.
        status: of HTTP.
        leave: the form that signs out, for who is signed in.
        back: the way back to the client.
    """
    out = (
        f'<form method="post" action="{escape(leave.action)}">{_hidden(leave)}'
        '<button class="plain">Sign out</button></form>'
        if leave
        else ""
    )
    link = f'<p><a href="{escape(back.url)}">Back to {_text(back.words)}</a></p>' if back else ""
    return _page(title, f"<h1>{_text(title)}</h1><p>{_text(words)}</p>{link}{out}", status=status)


def build_page(title: str, body: str, status: int = 200) -> Response:
    """A page of the server's own: the body is HTML, whose forms lead to this server alone."""
    return _page(title, body, status=status)


def _vouching(view: ConsentView) -> str:
    if view.host is not None:
        return f'<span class="good">Verified:</span> an app of <strong>{_text(view.host)}</strong>'
    return "Not verified: it has given itself this name"


def _warning(view: ConsentView) -> str:
    if view.host is not None and not view.destination.is_local:
        return ""
    words = "Allow it only if you have just started to connect this app yourself."
    if view.destination.is_local:
        words = f"Any program on this device could say that it is this app. {words}"
    return f'<p class="warn">{words}</p>'


def _who(view: ConsentView) -> str:
    return f"""<div class="who"><span>You are signed in as <strong>{_text(view.person)}</strong>.</span>
<form method="post" action="{escape(view.leave.action)}">{_hidden(view.leave)}
<button class="link">Not you?</button></form></div>"""


def _hidden(form: FormView) -> str:
    return f'<input type="hidden" name="token" value="{escape(form.token)}">'


def _list(*lines: str) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _text(words: str) -> str:
    return escape(one_line(words, 500))


def _page(title: str, body: str, status: int = 200, sources: Sequence[str] = ("'self'",)) -> Response:
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {' '.join(sources)}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # Not no-referrer: with it a browser sends `Origin: null` with our own forms, which is refused.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    html = _PAGE.format(title=_text(title), style=_STYLE, mark=_MARK, body=body)
    return HTMLResponse(html, status, headers)
