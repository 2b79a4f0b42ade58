"""Tags of guests in their metadata."""

from __future__ import annotations

import pytest

from conf.document import parse_document
from conf.domain.tags import LENGTH_MAX, NAMESPACE, TAGS_MAX, tags_of_domain, tags_of_element, tags_of_markup
from schema.errors import VirtError


def markup(*tags: str, uri: str = NAMESPACE) -> str:
    inside = "".join(f"<v:tag>{tag}</v:tag>" for tag in tags)
    return f'<metadata><app xmlns="urn:other"/><v:tags xmlns:v="{uri}">{inside}</v:tags></metadata>'


def test_tags_are_words_each_once_in_their_order() -> None:
    assert tags_of_markup(markup("web", " blue\n", "web", "")) == ("blue", "web")
    assert tags_of_domain(parse_document(f"<domain><name>a</name>{markup('web')}</domain>")) == ("web",)


def test_other_metadata_holds_none() -> None:
    assert tags_of_markup(None) == ()
    assert tags_of_markup(markup("web", uri="urn:other")) == ()
    nested = f'<metadata><app xmlns="urn:other"><tags xmlns="{NAMESPACE}"><tag>web</tag></tags></app></metadata>'
    assert tags_of_markup(nested) == ()


def test_the_element_by_itself_may_have_lost_its_namespace() -> None:
    assert tags_of_element("<tags><tag>web</tag><other>x</other><!-- y --></tags>") == ("web",)
    assert tags_of_element(f'<t:tags xmlns:t="{NAMESPACE}"><t:tag>web</t:tag></t:tags>') == ("web",)
    assert tags_of_element("<labels><tag>web</tag></labels>") == ()
    with pytest.raises(VirtError):
        tags_of_element("<tags>")


def test_their_number_and_length_are_bounded() -> None:
    assert len(tags_of_markup(markup(*(f"t{number:03}" for number in range(TAGS_MAX + 5))))) == TAGS_MAX
    assert tags_of_markup(markup("x" * (LENGTH_MAX + 1), "y")) == ("y",)
