"""Which licences are open, and what a person has to say of the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import UsageError
from datagen.publish.licences import hub_licence, open_grants, read_grants
from tests.publish.samples import dataset


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ("CC_BY_SA_3.0", "cc-by-sa-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0", "cc-by-nc-sa-4.0"),
        ("cc-by", "cc"),
        ("CC0", "cc0-1.0"),
        ("MIT", "mit"),
        ("Public Domain", "pddl"),
    ],
)
def test_open_licences_by_the_name_the_hub_has(licence, name):
    assert hub_licence(licence) == name


@pytest.mark.parametrize(
    "licence",
    ["", "none", "CC-BY-ND-4.0", "cc-by-nc-nd-4.0", "by", "Standard YouTube Licence", "Ego4D",
     "cc-by-4.0 or not", "not CC0", "https://evil.org/licenses/by/4.0/", "proprietary (mit)",
     "https://creativecommons.org/licenses/by-nd/4.0"],
)  # fmt: skip
def test_what_is_not_known_to_be_open_is_not(licence):
    assert hub_licence(licence) is None


@given(st.text(max_size=300))
def test_any_text_can_be_a_licence(licence):
    hub_licence(licence)
    hub_licence("cc-by-" * 100_000 + licence)


def test_grants_by_source_and_licence(tmp_path):
    out = dataset(tmp_path, ["CC0", None, "Ego4D", "CC0"])
    with pytest.raises(UsageError, match=r'1 videos are under "Ego4D".*--licence-ok "Ego4D"'):
        read_grants(out)
    grants = read_grants(out, timestamps=["EGO4D"])
    assert grants.whole == {"v00": "CC0", "v03": "CC0"}
    assert [(t.licence, t.videos, t.whole) for t in grants.terms] == [
        ("", 1, False),
        ("CC0", 2, True),
        ("Ego4D", 1, False),
    ]
    assert grants.withheld == 2
    assert open_grants(out) == grants
    assert read_grants(out, ok=["ego4d", "none"]).withheld == 0
    with pytest.raises(
        UsageError, match=r"'Ego5D': no video has this licence; there are 'cc0', 'ego4d', 'none'"
    ):
        read_grants(out, ok=["Ego4D", "Ego5D"])
    with pytest.raises(UsageError, match="holds no videos"):
        read_grants(tmp_path / "elsewhere")
