//! Keywords that are rewritten before the compiler sees them accept what they should and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use serde_json::{Value, json};

/// Whether each of the values, as compact JSON, is accepted.
#[track_caller]
fn holds(of: Value, good: &[Value], bad: &[Value]) {
    let source = schema(of);
    for value in good {
        assert!(accepts(&source, &value.to_string()), "{value} should fit {source:?}");
    }
    for value in bad {
        assert!(!accepts(&source, &value.to_string()), "{value} should not fit {source:?}");
    }
}

/// What programs write for a choice between kinds of objects: references, and a field that tells them apart.
#[test]
fn kinds_of_objects_are_told_apart() {
    let kind = |name: &str, field: &str, required: Value| {
        json!({
            "type": "object",
            "properties": {"kind": {"const": name, "type": "string"}, field: {"type": "number"}},
            "required": required,
        })
    };
    let shapes = |required: &dyn Fn(&str) -> Value| {
        json!({
            "$defs": {
                "circle": kind("circle", "radius", required("radius")),
                "square": kind("square", "side", required("side")),
            },
            "oneOf": [{"$ref": "#/$defs/circle"}, {"$ref": "#/$defs/square"}],
        })
    };
    let good = [json!({"kind": "circle", "radius": 1}), json!({"kind": "square", "side": 2.5})];
    let bad = [
        json!({"kind": "square", "radius": 1}),
        json!({"kind": "oval", "side": 1}),
        json!({"radius": 1}),
        json!([]),
    ];
    holds(shapes(&|field| json!(["kind", field])), &good, &bad);
    // A field with a default isn't required, but without it there's no telling.
    holds(shapes(&|field| json!([field])), &good, &bad);
}

#[test]
fn one_of_is_one_and_not_two() {
    let either = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    holds(either, &[json!({"a": 1}), json!({"b": 1, "c": 2})], &[json!({}), json!({"a": 1, "b": 1})]);
    let numbers = json!({"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 7}]});
    holds(numbers, &[json!(3), json!(9)], &[json!(5), json!(6), json!(7), json!("a")]);
}

#[test]
fn conditions_hold_both_ways() {
    let address = json!({
        "type": "object",
        "properties": {"country": {"enum": ["US", "NL", "DE"]}, "code": {"type": "string"}},
        "required": ["country", "code"],
        "additionalProperties": false,
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
        "else": {"properties": {"code": {"pattern": "^[A-Z]{2}$"}}},
    });
    let of = |country: &str, code: &str| json!({"country": country, "code": code});
    holds(
        address,
        &[of("US", "12345"), of("NL", "AB")],
        &[of("US", "AB"), of("DE", "12345"), of("FR", "AB")],
    );
    let only_else = json!({"if": {"type": "string"}, "else": {"type": "null"}});
    holds(only_else, &[json!("x"), json!(null)], &[json!(1), json!([])]);
}

#[test]
fn what_is_denied_is_not_there() {
    let names = json!({"type": "string", "not": {"enum": ["", "root", "ro.t"]}});
    holds(
        names,
        &[json!("r"), json!("roo"), json!("rooot"), json!("roxt")],
        &[json!(""), json!("root"), json!("ro.t"), json!(1)],
    );
    let far = json!({"type": "integer", "not": {"minimum": -1, "maximum": 1}});
    holds(far, &[json!(2), json!(-2)], &[json!(0), json!(1), json!(-1)]);
    let without = json!({"type": "object", "not": {"required": ["secret"]}});
    holds(without, &[json!({}), json!({"a": 1})], &[json!({"secret": 1})]);
    let twice = json!({"not": {"not": {"type": "boolean"}}});
    holds(twice, &[json!(true)], &[json!(1)]);
    let list = json!({"type": "array", "items": {"type": "integer"}, "not": {"const": [1, 2]}});
    holds(list, &[json!([]), json!([1]), json!([1, 3]), json!([1, 2, 3])], &[json!([1, 2])]);
}

#[test]
fn properties_depend_on_others() {
    let card = json!({
        "type": "object",
        "properties": {"card": {"type": "integer"}, "address": {"type": "string"}, "note": {"type": "string"}},
        "dependentRequired": {"card": ["address"]},
        "dependentSchemas": {"note": {"properties": {"address": {"minLength": 2}}}},
    });
    let good = [
        json!({}),
        json!({"address": ""}),
        json!({"card": 1, "address": ""}),
        json!({"address": "xy", "note": "n"}),
    ];
    holds(card, &good, &[json!({"card": 1}), json!({"address": "x", "note": "n"})]);
}

#[test]
fn names_of_properties_are_held() {
    let of = |names: Value| json!({"type": "object", "propertyNames": names, "additionalProperties": {"type": "integer"}});
    holds(
        of(json!({"pattern": "^[a-z]+$"})),
        &[json!({"ab": 1}), json!({})],
        &[json!({"A": 1}), json!({"ab": "x"})],
    );
    holds(of(json!({"enum": ["x", "y"]})), &[json!({"x": 1, "y": 2})], &[json!({"z": 1})]);
    holds(of(json!({"maxLength": 2})), &[json!({"xy": 1})], &[json!({"xyz": 1})]);
}

#[test]
fn patterns_and_formats_have_opposites() {
    let no_id = json!({"type": "string", "not": {"pattern": "^id-[0-9]+$"}});
    holds(
        no_id,
        &[json!(""), json!("id-"), json!("id-1x"), json!("é")],
        &[json!("id-1"), json!("id-12"), json!(1)],
    );
    let no_date = json!({"type": "string", "not": {"format": "date"}});
    holds(no_date, &[json!("x"), json!("2024-1-1")], &[json!("2024-01-01"), json!("0000-02-29")]);
    let either = json!({"oneOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]});
    holds(either, &[json!("xa"), json!("b")], &[json!("ab"), json!("x")]);
    let names = json!({"type": "object", "propertyNames": {"not": {"pattern": "^_"}, "pattern": "^.b", "maxLength": 3}});
    holds(
        names,
        &[json!({}), json!({"ab": 1}), json!({"abc": 1})],
        &[json!({"_b": 1}), json!({"a": 1}), json!({"abcd": 1})],
    );
}

#[test]
fn patterns_of_names_may_overlap() {
    let both = json!({
        "type": "object",
        "patternProperties": {"^a": {"type": "integer"}, "b$": {"minimum": 5}},
        "additionalProperties": false,
    });
    let good = [json!({}), json!({"a": 1}), json!({"b": "x"}), json!({"b": 7}), json!({"ab": 6, "axb": 5})];
    holds(
        both,
        &good,
        &[json!({"ab": 1}), json!({"ab": "x"}), json!({"a": "x"}), json!({"b": 1}), json!({"c": 1})],
    );
    let open =
        json!({"type": "object", "patternProperties": {"a": {"type": "integer"}, "^ab": {"maximum": 3}}});
    holds(open, &[json!({"x": null, "ab": 2, "xa": 9})], &[json!({"ab": 4}), json!({"xa": "x"})]);
}

#[test]
fn dates_are_those_of_the_calendar() {
    let date = json!({"type": "string", "format": "date"});
    let good =
        ["2024-02-29", "2000-02-29", "2023-02-28", "0004-02-29", "0001-01-01", "9999-12-31", "1900-04-30"];
    let bad = [
        "2023-02-29",
        "1900-02-29",
        "2100-02-29",
        "2024-02-30",
        "2024-04-31",
        "2024-13-01",
        "0000-01-01",
        "2024-1-01",
    ];
    let values = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    holds(date, &values(&good), &values(&bad));
    let moment = json!({"type": "string", "format": "date-time"});
    let good = ["2024-02-29T23:59:59Z", "0001-01-01T00:00:00.5+01:30"];
    let bad = [
        "2023-02-29T00:00:00Z",
        "2024-02-29T24:00:00Z",
        "2024-02-29T00:00:60Z",
        "2024-02-29T00:00:00",
        "2024-02-29 00:00:00Z",
    ];
    holds(moment, &values(&good), &values(&bad));
    holds(json!({"type": "string", "format": "time"}), &values(&["00:00:00-23:59"]), &values(&["0:00:00Z"]));
}

#[test]
fn lists_contain_and_repeat_nothing() {
    let contains =
        json!({"type": "array", "items": {"enum": [1, 2, 3]}, "contains": {"const": 2}, "maxContains": 2});
    holds(
        contains,
        &[json!([2]), json!([1, 3, 2, 1]), json!([2, 2])],
        &[json!([]), json!([1, 3]), json!([2, 2, 2])],
    );
    let set =
        json!({"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": true, "minItems": 1});
    holds(
        set,
        &[json!(["a"]), json!(["c", "a", "b"])],
        &[json!([]), json!(["a", "a"]), json!(["a", "b", "a"])],
    );
    // Too many in every order.
    let letters: Vec<String> = ('a'..='i').map(String::from).collect();
    let large = json!({"type": "array", "items": {"enum": letters}, "uniqueItems": true, "minItems": 2});
    holds(
        large,
        &[json!(["a", "b"]), json!(["b", "e", "i"]), json!(letters)],
        &[json!(["a"]), json!(["a", "a"]), json!(["a", "b", "b"]), json!(["i", "i", "i"])],
    );
    let loose = json!({"type": "array", "uniqueItems": false});
    holds(loose, &[json!([1, 1])], &[json!(1)]);
}

#[test]
fn what_nothing_has_looked_at_is_refused() {
    let base = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}, {"properties": {"c": {"const": 2}}, "required": ["c"]}],
        "unevaluatedProperties": false,
    });
    let good = [json!({"a": 1, "b": 1}), json!({"c": 2}), json!({"a": 1, "b": 1, "c": 2})];
    holds(base, &good, &[json!({"a": 1}), json!({"b": 1, "d": 1}), json!({"b": 1, "c": 3})]);
    let tail = json!({"type": "array", "prefixItems": [{"type": "string"}], "unevaluatedItems": false});
    holds(tail, &[json!([]), json!(["a"])], &[json!(["a", 1])]);
}

#[test]
fn references_lead_everywhere_in_the_document() {
    let tree = json!({
        "$id": "https://example.org/tree",
        "$defs": {"leaf": {"$anchor": "leaf", "not": {"type": ["object", "array"]}}},
        "type": "object",
        "properties": {"value": {"$ref": "#leaf"}, "children": {"type": "array", "items": {"$ref": "tree"}}},
        "required": ["value"],
        "additionalProperties": false,
    });
    holds(
        tree,
        &[json!({"value": 1, "children": [{"value": "x"}]})],
        &[json!({"value": []}), json!({"value": 1, "children": [1]})],
    );
}

/// Nested alternatives multiply, which must end in a refusal and not in an endless computation.
#[test]
fn what_grows_too_large_is_refused() {
    let deep = (0..30).fold(json!({"type": "string", "minLength": 1}), |inner, level| {
        json!({"if": inner, "then": {"required": [format!("k{level}")]}, "else": {"minProperties": level}})
    });
    let pairs = (0..12)
        .fold(json!({"minLength": 1}), |inner, level| json!({"not": {"oneOf": [inner, {"minimum": level}]}}));
    let places = (0..12).fold(json!({"minimum": 1}), |inner, _| json!({"contains": inner, "maxContains": 2}));
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let long = json!({"not": {"enum": values}});
    let wide: Vec<Value> = (0..40)
        .map(|n| json!({"required": [format!("k{n}")], "properties": {"x": {"minimum": n}}}))
        .collect();
    for of in [deep, pairs, places, long, json!({"oneOf": wide})] {
        let error = start(&schema(of)).unwrap_err().to_string();
        assert!(["too large", "levels", "combinations"].iter().any(|word| error.contains(word)), "{error}");
    }
}
