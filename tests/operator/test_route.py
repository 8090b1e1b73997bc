"""A route's conditions, on a real API server."""

from __future__ import annotations

import asyncio

from tests.operator.bench import Bench, condition, external, ollama, route, says

from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import BACKENDS, ROUTES, uid_of


async def test_missing_references_are_named(api: Connection, bench: Bench, namespace: str) -> None:
    client = Client(api)
    await client.create(ollama("local", namespace))
    await client.create(external("paid", namespace, secret="key"))
    await client.create(route("r", namespace, ["chat"], "nowhere", "local/none", "paid", "local"))
    await bench.settle()
    seen = await bench.route("r")
    assert says(seen, "ResolvedRefs") == ("False", "BackendNotFound")
    assert says(seen, "Ready") == ("False", "BackendNotFound")
    message = condition(seen, "ResolvedRefs")["message"]
    for word in ("LLMBackend nowhere does not exist", "no model none", "Secret key does not exist"):
        assert word in message
    states = [t["state"] for t in seen["status"]["targets"]]
    assert states == ["BackendNotFound", "ModelNotFound", "SecretMissing", "Unknown"]
    assert seen["status"]["targetsSummary"] == "1/4"
    kinds = {c["type"] for c in seen["status"]["conditions"]}
    assert kinds == {"Ready", "Reconciling", "Stalled", "Accepted", "ResolvedRefs", "Serving", "FallbackArmed"}

    await client.create(ollama("nowhere", namespace))
    two = [{"backend": "nowhere", "model": "m"}, {"backend": "local", "model": "m", "priority": 1}]
    await api.request("PATCH", ROUTES.path(namespace, "r"), body={"spec": {"targets": two}}, content_type=MERGE_PATCH)
    await bench.settle()
    assert says(await bench.route("r"), "ResolvedRefs") == ("True", "Resolved")


async def test_name_clash_stands_on_the_younger_until_the_older_is_gone(
    api: Connection, bench: Bench, namespace: str
) -> None:
    client = Client(api)
    await client.create(ollama("local", namespace))
    older = await client.create(route("zz-older", namespace, ["chat"], "local"))
    await asyncio.sleep(1.1)  # creationTimestamp has whole seconds; the API server sets it
    await client.create(route("aa-younger", namespace, ["chat", "other"], "local"))
    await bench.settle()
    assert says(await bench.route("zz-older"), "Accepted") == ("True", "Accepted")
    loser = await bench.route("aa-younger")
    assert says(loser, "Accepted") == ("False", "ModelNameClaimed")
    assert says(loser, "Ready") == ("False", "ModelNameClaimed")
    assert "chat (route zz-older)" in condition(loser, "Accepted")["message"]
    await client.delete(ROUTES, namespace, "zz-older", uid=uid_of(older))
    await bench.look()
    assert await bench.routes.misnamed(namespace) == ["aa-younger"]
    await bench.settle()
    assert says(await bench.route("aa-younger"), "Accepted") == ("True", "Accepted")
    assert await bench.routes.misnamed(namespace) == []


async def test_route_without_a_gateway_does_not_serve(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("a", namespace))
    await Client(api).create(ollama("b", namespace))
    await Client(api).create(route("r", namespace, ["chat"], "a", "b"))
    await bench.settle()
    seen = await bench.route("r")
    assert says(seen, "Serving") == ("False", "GatewayNotReady")
    assert says(seen, "FallbackArmed") == ("Unknown", "NoReport")
    assert says(seen, "Reconciling")[0] == "True"


async def test_fallback_that_cannot_fire_is_said_before_the_outage(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("a", namespace))
    await Client(api).create(route("one", namespace, ["x"], "a"))
    off = route("off", namespace, ["y"], "a", "a")
    off["spec"]["fallback"] = {"mode": "None"}
    await Client(api).create(off)
    await bench.settle()
    assert says(await bench.route("one"), "FallbackArmed") == ("False", "OneTarget")
    assert says(await bench.route("off"), "FallbackArmed") == ("False", "FallbackOff")


async def test_lost_backend_turns_the_route(api: Connection, bench: Bench, namespace: str) -> None:
    made = await Client(api).create(ollama("a", namespace))
    await Client(api).create(route("r", namespace, ["chat"], "a"))
    await bench.settle()
    assert says(await bench.route("r"), "ResolvedRefs")[0] == "True"
    await Client(api).delete(BACKENDS, namespace, "a", uid=uid_of(made))
    await bench.settle()
    assert says(await bench.route("r"), "ResolvedRefs") == ("False", "BackendNotFound")
