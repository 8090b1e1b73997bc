"""What real nodes and API servers said of images that they could not mount, and what the status makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.api.conditions import Reason
from pointsman.controllers.causes import pod_cause
from pointsman.controllers.image_causes import dropped, may_be_dropped, references, refused, trouble
from pointsman.kube.resources import Obj

IMAGE = "registry.test:5000/demo/tiny:1"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve image: '
HEAD = f'{PULL}failed to do request: Head "https://registry.test:5000/v2/demo/tiny/manifests/1": '
SAID = {
    # kubelet 1.35.4, containerd 2.2.9
    Reason.UNKNOWN_MODEL: f"rpc error: code = NotFound desc = {PULL}{IMAGE}: not found",
    Reason.ACCESS_DENIED: f"{PULL}pull access denied, repository does not exist or may require authorization:"
    " authorization failed: no basic auth credentials",
    Reason.REGISTRY_UNREACHABLE: f"{HEAD}dial tcp 10.174.255.1:5000: connect: connection refused",
    Reason.DISK_FULL: f'failed to pull and unpack image "{IMAGE}": failed to copy: write /var/lib/containerd/io.'
    "containerd.content.v1.content/ingest/d5ee57037e7f/data: no space left on device",
    # Go's crypto/tls
    Reason.UNTRUSTED_CERTIFICATE: f"{HEAD}tls: failed to verify certificate: x509: certificate signed by unknown"
    " authority",
    Reason.PULL_FAILED: f"{PULL}something else",
}
NO_HOST = f"{HEAD}dial tcp: lookup registry.test on 10.174.255.2:53: no such host"
OLD = (
    'failed to generate container "3687addf579b" spec: failed to generate spec: failed to mkdir "": mkdir : no such'
    " file or directory"
)
"""containerd 1.6.20 with kubelet 1.35.4."""
NO_PLUGIN = (
    "Unable to attach or mount volumes: unmounted volumes=[m], unattached volumes=[], failed to process volumes=[m]:"
    ' failed to get Plugin from volumeSpec for volume "m" err=no volume plugin matched'
)
"""kubelet 1.35.4 with the feature gate off."""


def waits(reason: str, message: str) -> dict[str, Any]:
    return {
        "name": "look-0",
        "image": "example.test/pointsman:1",
        "state": {"waiting": {"reason": reason, "message": message}},
    }


def pod(status: dict[str, Any], image: str = IMAGE) -> Obj:
    volumes = [{"name": "store", "emptyDir": {}}, {"name": "image-1", "image": {"reference": image}}]
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "n", "volumes": volumes},
        "status": {"phase": "Pending", "initContainerStatuses": [status]},
    }


@pytest.mark.parametrize("reason", SAID)
@pytest.mark.parametrize("wrapped", [False, True])
def test_why_a_node_cannot_pull_it_is_one_sentence(reason: Reason, wrapped: bool) -> None:
    message = f'Back-off pulling image "{IMAGE}": ErrImagePull: {SAID[reason]}' if wrapped else SAID[reason]
    cause = pod_cause(pod(waits("ImagePullBackOff" if wrapped else "ErrImagePull", message)), None, {})
    assert cause is not None
    assert cause.reason is reason
    assert cause.message.startswith(f"image {IMAGE} cannot be pulled by the node: ")
    assert not cause.stuck, "kubelet tries again"


def test_words_in_the_images_own_name_decide_nothing() -> None:
    image = "forbidden.test/not-found/denied:403"
    found = trouble(waits("ErrImagePull", f'failed to pull and unpack image "{image}": connection refused'), [image])
    assert found is not None
    assert found.reason is Reason.REGISTRY_UNREACHABLE


def test_a_host_that_nobody_knows_is_no_model_that_nobody_knows() -> None:
    found = trouble(waits("ErrImagePull", NO_HOST), [IMAGE])
    assert found is not None
    assert found.reason is Reason.REGISTRY_UNREACHABLE


def test_the_image_of_a_container_is_another_matter() -> None:
    status = waits("ErrImagePull", 'failed to pull and unpack image "example.test/pointsman:1": not found')
    cause = pod_cause(pod(status), None, {})
    assert cause is not None
    assert cause.reason is Reason.IMAGE_PULL_FAILED


def test_a_runtime_or_a_kubelet_that_mounts_no_images_is_named() -> None:
    for status, events in (
        (waits("CreateContainerError", OLD), {}),
        (waits("PodInitializing", ""), {"u": ({"type": "Warning", "reason": "FailedMount", "message": NO_PLUGIN},)}),
    ):
        cause = pod_cause(pod(status), None, events)
        assert cause is not None
        assert cause.reason is Reason.NO_IMAGE_VOLUMES
        assert "use storage.mode Shared or PerPod" in cause.message
    plain = pod(waits("CreateContainerError", OLD))
    del plain["spec"]["volumes"][1]
    cause = pod_cause(plain, None, {})
    assert cause is not None
    assert cause.reason is Reason.CONTAINER_CONFIG, "without such a volume it is something else"


def test_an_api_server_that_drops_the_volumes_or_does_not_know_them_is_seen() -> None:
    """With the gate off 1.35 leaves them out without a word, their mounts too."""
    workload = {"kind": "Deployment", "spec": {"template": pod({})}}
    without = {"kind": "Deployment", "spec": {"template": {"spec": {"volumes": [{"name": "store", "emptyDir": {}}]}}}}
    lost = dropped(workload, without)
    assert lost is not None
    assert lost.reason is Reason.NO_IMAGE_VOLUMES
    assert dropped(workload, workload) is None
    assert dropped(without, without) is None
    assert [may_be_dropped(workload, live) for live in (None, without, workload)] == [True, True, False]
    assert not may_be_dropped(without, None), "others cost no further call"
    unknown = (
        'failed to create typed patch object: .spec.template.spec.volumes[name="m"].image: field not declared in schema'
    )
    assert refused(workload, unknown) is not None
    assert refused(without, unknown) is None
    assert references(pod({})) == (IMAGE,)
