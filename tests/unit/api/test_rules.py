"""Manifests from files are accepted and refused as the API server would (`tests/operator/test_admission.py`)."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tests.support.admission import CASES, Case

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.objects import LLMBackend, ModelRoute, sentence


@pytest.mark.parametrize("case", [c for c in CASES if not c.of_name], ids=lambda c: c.name)
def test_one_table_of_accepted_and_refused_objects(case: Case) -> None:
    parse = LLMBackend.parse if case.body["kind"] == "LLMBackend" else ModelRoute.parse
    if not case.refused:
        parse(case.body)
        return
    with pytest.raises(ValidationError) as error:
        parse(case.body)
    assert case.refused in sentence(error.value)


def test_the_spec_reads_back_what_it_wrote() -> None:
    for case in CASES:
        if case.refused or case.from_api or case.body["kind"] != "LLMBackend":
            continue
        spec = LLMBackend.parse(case.body).spec
        assert LLMBackendSpec.model_validate(spec.to_api()) == spec
