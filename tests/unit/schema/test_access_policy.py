from __future__ import annotations

import pytest

from schema.access_policy import NOBODY, Person, PolicyError, Thing, known_permissions, parse_policy

POLICY = """
[[rule]]
who = ["group:trainees"]
what = ["domain:stop"]
which = ["name:prod-*"]
refuse = true

[[rule]]
who = ["user:alice", "group:trainees", "x509:*,CN=laptop-?"]
what = ["domain:*", "connect:getattr"]
which = ["name:prod-*", "name:web-*", "uuid:6a4c*"]

[[rule]]
who = ["*"]
what = ["connect:*"]

[[rule]]
who = ["via:tls"]
what = ["*:getattr"]
"""


def person(user: str = "", *groups: str, x509: str = "", via: str = "unix") -> Person:
    return Person(user, frozenset(groups), x509, via)


WEB = Thing("web-1", "00000000-0000-0000-0000-000000000001")
PROD = Thing("prod-1", "00000000-0000-0000-0000-000000000002")
OTHER = Thing("x", "6a4c0000-0000-0000-0000-000000000003")


def test_the_first_rule_that_speaks_of_it_decides() -> None:
    policy = parse_policy(POLICY)
    trainee = policy.judge(person("bob", "trainees", "users"))
    assert trainee.may("domain", "start", PROD)
    assert not trainee.may("domain", "stop", PROD)
    assert trainee.may("domain", "stop", WEB)
    assert policy.judge(person("alice")).may("domain", "stop", PROD)


def test_what_no_rule_decides_is_refused_unless_the_file_says_otherwise() -> None:
    assert not parse_policy(POLICY).judge(person("alice")).may("network", "start", WEB)
    assert parse_policy('otherwise = "allow"').judge(person()).may("network", "start", WEB)
    assert not NOBODY.judge(person("root")).may("connect", "getattr")


def test_objects_are_found_by_name_and_uuid_and_unknown_ones_by_no_pattern() -> None:
    alice = parse_policy(POLICY).judge(person("alice"))
    assert alice.may("domain", "read", OTHER)
    assert not alice.may("domain", "read", Thing("x", "7a"))
    assert not alice.may("domain", "read", Thing())
    assert not parse_policy('[[rule]]\nwho=["*"]\nwhat=["*"]\nwhich=["name:*"]').judge(person()).may("domain", "read")


def test_callers_are_found_by_certificate_and_by_the_way_they_came() -> None:
    policy = parse_policy(POLICY)
    assert policy.judge(person(x509="C=GB,CN=laptop-7")).may("domain", "read", WEB)
    assert not policy.judge(person(x509="C=GB,CN=laptop-77")).may("domain", "read", WEB)
    assert policy.judge(person(via="tls")).may("network", "getattr", WEB)
    assert not policy.judge(person("user:*")).may("domain", "read", WEB)


def test_what_cannot_be_allowed_for_any_object_is_known_beforehand() -> None:
    policy = parse_policy(POLICY)
    trainee = policy.judge(person("bob", "trainees"))
    assert trainee.could("domain", "stop")
    assert not trainee.could("network", "start")
    assert trainee.depends_on_thing("domain", "stop")
    assert not trainee.depends_on_thing("connect", "search_domains")
    never = parse_policy('[[rule]]\nwho=["*"]\nwhat=["domain:stop"]\nrefuse=true\n[[rule]]\nwho=["*"]\nwhat=["*"]')
    assert not never.judge(person()).could("domain", "stop")
    assert never.judge(person()).could("domain", "start")


def test_permissions_are_those_of_the_api() -> None:
    assert {"domain:start", "connect:search_domains", "storage_vol:data_read"} <= known_permissions()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]]\nwhat=['*']", "who"),
        ("[[rule]]\nwho=[]\nwhat=['*']", "length"),
        ("[[rule]]\nwho=['alice']\nwhat=['*']", "'alice' is nobody"),
        ("[[rule]]\nwho=['*']\nwhat=['domain:fly']", "no permission is like 'domain:fly'"),
        ("[[rule]]\nwho=['*']\nwhat=['*']\nwhich=['label:x']", "'label:x' names no object"),
        ("[[rule]]\nwho=['*']\nwhat=['*']\nallow=true", "allow"),
        ("[tags]\nx=['tag:y']", "tag 'x': 'tag:y' names no object"),
        ("otherwise = 'perhaps'", "neither"),
        ("= 1", "Invalid"),
    ],
)
def test_a_faulty_file_is_refused_with_its_fault(text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse_policy(text)


TAGGED = """
[tags]
production = ["name:prod-*", "uuid:6a4c*"]

[[rule]]
who = ["*"]
what = ["domain:stop"]
which = ["tag:prod*"]
refuse = true

[[rule]]
who = ["*"]
what = ["domain:*"]
which = ["tag:prod*", "tag:web"]
"""


def test_tags_of_the_file_and_of_guests_are_matched_alike() -> None:
    alice = parse_policy(TAGGED).judge(person("alice"))
    for thing in (PROD, OTHER, Thing("any", "", ("blue", "production"))):
        assert alice.may("domain", "start", thing)
        assert not alice.may("domain", "stop", thing)
    assert alice.may("domain", "stop", Thing("any", "", ("web",)))
    assert not alice.may("domain", "start", WEB)
    assert alice.asks_for_tags()
    assert not parse_policy(POLICY).judge(person("alice")).asks_for_tags()


def test_what_another_tag_would_allow_is_told() -> None:
    alice = parse_policy(TAGGED).judge(person("alice"))
    produced = Thing("any", "", ("production",))
    assert alice.gained(produced, produced._replace(tags=("web",))) == "stop"
    assert alice.gained(produced._replace(tags=("web",)), produced) is None
    assert alice.gained(Thing("any"), Thing("any", "", ("web",))) == "block_read"
