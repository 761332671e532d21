"""The scenarios of the conformance suite for authorization servers, on our own sign-in."""

import json
import re

import anyio
import httpx2
from run import NODE, environment
from ways import SECONDS, Case

__all__ = ["run_authorization_scenarios"]

SCENARIOS = 2  # the suite's, each with one check


async def run_authorization_scenarios(case: Case) -> str:
    """Run them for a client that registers, or has a document.

    Raises:
        AssertionError: a check failed, or fewer succeeded than there are scenarios.
    """
    issuer, out = case.url.removesuffix("/mcp"), case.folder / "out"
    command = [str(NODE / "node_modules" / ".bin" / "conformance"), "authorization", "--url", issuer, "-o", str(out)]
    command += ["--client-id", case.document or await register(issuer, case.callback)]
    command += ["--resource", case.url, "--port", str(case.port)]
    printed = ""
    async with await anyio.open_process(command, env=environment(), cwd=case.folder) as process:
        assert process.stdout is not None
        async for part in process.stdout:
            printed += part.decode()
            if found := re.search(r"^(http\S+/authorize\S+)\s", printed, re.MULTILINE):
                printed = printed[found.end() :]
                await case.browse_back(found[1])
    files = sorted(out.rglob("checks.json"))
    checks = [check for file in files for check in json.loads(file.read_text(encoding="utf-8"))]
    good = [check for check in checks if check["status"] == "SUCCESS"]
    bad = [check for check in checks if check["status"] in ("FAILURE", "SKIPPED")]
    if bad or len(good) < SCENARIOS:
        raise AssertionError(f"{bad} {printed[-1000:]}")
    return f"{len(good)} checks"


async def register(issuer: str, callback: str) -> str:
    """Register a client; its id."""
    said = {"redirect_uris": [callback], "client_name": "The suite", "token_endpoint_auth_method": "none"}
    async with httpx2.AsyncClient(timeout=SECONDS) as http:
        reply = await http.post(f"{issuer}/register", json=said)
    return str(reply.raise_for_status().json()["client_id"])
