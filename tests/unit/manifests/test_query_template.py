"""Templates of named queries: what they select, and the faults that are named when stored."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.catalog.asset_selection import OrderField, Selection
from orchestrator.errors import InvalidInput
from orchestrator.manifests.query_template import QueryTemplate


def bound(template: str, *arguments: str) -> Selection:
    return QueryTemplate.parse(template).bind(7, arguments).selection


def selection(**fields: Any) -> Selection:
    return Selection(customer=7, servable=True, **fields)


SELECTED = {
    "one argument": ("s1=p1", ["a"], {"strings": ("a", None, None)}),
    "arguments in any place": ("s2=p2&s1=p1", ["a", "b"], {"strings": ("a", "b", None)}),
    "texts": ("s3=abc", [], {"strings": (None, None, "abc")}),
    "numbers": ("n1=p1&n2=7&n3=-3", ["5"], {"numbers": (5, 7, -3)}),
    "a space": ("space=p1", ["3"], {"spaces": (3,)}),
    "batches": ("batch=p1", ["1,2"], {"batches": (1, 2)}),
    "batches and arguments": ("batch=9,p1", ["1"], {"batches": (9, 1)}),
    "manifests": ("manifest=p1", ["a,b"], {"manifests": ("a", "b")}),
    "fixed arguments": ("s1=p1&s2=p2&#=x", ["a"], {"strings": ("a", "x", None)}),
    "only fixed arguments": ("s1=p1&#=x&#=y&s2=p2", [], {"strings": ("x", "y", None)}),
    "missing arguments": ("s1=p1&s2=p2&n1=p3", ["a"], {"strings": ("a", None, None)}),
    "arguments that are not used": ("s1=p1", ["a", "b", "c"], {"strings": ("a", None, None)}),
    "an argument with a slash": ("s1=p1", ["a/b"], {"strings": ("a/b", None, None)}),
    "an argument like an argument": ("s1=p1", ["p1"], {"strings": ("p1", None, None)}),
    "a text that begins with p": ("s1=\\page", [], {"strings": ("page", None, None)}),
    "a text like an argument": ("s1=\\p1", [], {"strings": ("p1", None, None)}),
    "a backslash": ("s1=\\\\x", [], {"strings": ("\\x", None, None)}),
    "only p": ("s1=p", [], {"strings": ("p", None, None)}),
    "an encoded text": ("s1=a%26b%3Dc", [], {"strings": ("a&b=c", None, None)}),
    "an order": (
        "s1=p1&assetOrder=n1;n2 desc;s1+asc",
        ["a"],
        {
            "strings": ("a", None, None),
            "order": (OrderField("number1"), OrderField("number2", True), OrderField("string1")),
        },
    ),
    "the older name of an order": ("canvas=n3", [], {"order": (OrderField("number3"),)}),
}


@pytest.mark.parametrize(("template", "arguments", "fields"), SELECTED.values(), ids=SELECTED)
def test_a_template_selects_with_the_arguments_of_a_request(
    template: str, arguments: list[str], fields: dict[str, Any]
) -> None:
    assert bound(template, *arguments) == selection(**fields)


def test_the_name_of_a_space_is_resolved_by_the_caller() -> None:
    query = QueryTemplate.parse("spacename=p1&s1=p2").bind(7, ["Maps", "a"])
    assert query.space_name == "Maps"
    assert query.selection == selection(strings=("a", None, None))


FAULTS = {
    "": "write key=value",
    "s1": "write key=value",
    "s1=": "write key=value",
    "=p1": "not a key",
    "s1=p1&": "write key=value",
    "s4=p1": "'s4' is not a key",
    "assetOrdering=n1": "'assetOrdering' is not a key",
    "S1=p1": "'S1' is not a key",
    "s1=p1&s1=p2": "more than once",
    "s1=p1x": "no argument",
    "s1=page": r"write \\page",
    "s1=p0": "no argument",
    "s1=p100": "no argument",
    "s1=\\x": "after a backslash",
    "s1=50%": "write % as %25",
    "n1=abc": "not a number",
    "n1=99999999999999999999": "not a number",
    "space=-1": "not a number",
    "space=1&spacename=a": "use one of them",
    "batch=1,x": "not a number",
    "assetOrder=n4": "none of",
    "assetOrder=n1 up": "none of",
    "assetOrder=": "write key=value",
    "assetOrder=n1&canvas=n2": "an order already",
    "coverpage=https://x": "PDF and ZIP",
    "s1=" + "x" * 4000: "4000 characters",
}


@pytest.mark.parametrize(("template", "fault"), FAULTS.items())
def test_a_fault_of_a_template_is_named(template: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        QueryTemplate.parse(template)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as error:
        QueryTemplate.parse("x=1&n1=a&s1")
    assert error.value.public.count(";") >= 2


REFUSED = {
    "no argument at all": ("s1=p1", []),
    "text for a number": ("n1=p1", ["x"]),
    "a number that is too large": ("space=p1", ["1000000000"]),
    "text in a list of numbers": ("batch=p1", ["1,x"]),
    "digits of another script": ("n1=p1", ["\u0661"]),
}


@pytest.mark.parametrize(("template", "arguments"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_do_not_fit_are_refused(template: str, arguments: list[str]) -> None:
    with pytest.raises(InvalidInput):
        bound(template, *arguments)
