use proptest::prelude::*;

use super::*;

/// The definition: look at every end, in order, and at every stop string there.
fn naive(pieces: &[String], stops: &[String], include: bool, min_tokens: usize) -> (String, Option<String>) {
    let text = pieces.concat();
    let exempt: usize = pieces.iter().take(min_tokens).map(String::len).sum();
    for end in exempt + 1..=text.len() {
        let here =
            stops.iter().filter(|stop| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes()));
        if let Some(stop) = here.max_by_key(|stop| stop.len()) {
            let cut = if include { end } else { end - stop.len() };
            return (text[..cut].to_owned(), Some(stop.clone()));
        }
    }
    (text, None)
}

fn stream(checker: &mut StopChecker, pieces: &[String]) -> String {
    let mut text: String = pieces.iter().map(|piece| checker.push(piece)).collect();
    text.push_str(&checker.finish());
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn equals_a_search_of_the_whole_text(
        pieces in prop::collection::vec("[ab€é]{0,3}", 0..16),
        stops in prop::collection::vec("[ab€é]{0,5}", 0..4),
        include in any::<bool>(),
        min_tokens in prop_oneof![Just(0), 0..6usize],
    ) {
        let mut checker = StopChecker::new(&stops, include, min_tokens);
        let text = stream(&mut checker, &pieces);
        let (expected, stop) = naive(&pieces, &stops, include, min_tokens);
        prop_assert_eq!(text, expected);
        prop_assert_eq!(checker.matched(), stop.as_deref());
    }

    #[test]
    fn holds_back_no_more_than_a_possible_start(
        pieces in prop::collection::vec("[abé]{0,3}", 0..12),
        stops in prop::collection::vec("[abé]{1,5}", 1..4),
    ) {
        let mut checker = StopChecker::new(&stops, false, 0);
        let (mut seen, mut shown) = (String::new(), String::new());
        for piece in &pieces {
            seen.push_str(piece);
            shown.push_str(&checker.push(piece));
            if checker.matched().is_some() {
                break;
            }
            let could_stop = |start: usize| stops.iter().any(|stop| stop.starts_with(&seen[start..]));
            let first = seen.char_indices().map(|(at, _)| at).find(|at| could_stop(*at));
            prop_assert_eq!(&shown, &seen[..first.unwrap_or(seen.len())]);
        }
    }
}

fn pieces(text: &[&str]) -> Vec<String> {
    text.iter().map(|piece| (*piece).to_owned()).collect()
}

#[test]
fn a_stop_string_across_pieces_is_never_shown() {
    let mut checker = StopChecker::new(&["\nUser:"], false, 0);
    assert_eq!(checker.push("Hello.\nUs"), "Hello.");
    assert_eq!(checker.push("e"), "");
    assert_eq!(checker.push("r: hi"), "");
    assert_eq!(checker.matched(), Some("\nUser:"));
    assert_eq!(checker.finish(), "");
    assert_eq!(checker.push("more"), "");
}

#[test]
fn a_false_start_is_released_at_once() {
    let mut checker = StopChecker::new(&["abc"], false, 0);
    assert_eq!(checker.push("xab"), "x");
    assert_eq!(checker.push("d"), "abd");
}

#[test]
fn min_tokens_lets_early_stop_strings_pass() {
    let mut checker = StopChecker::new(&["."], true, 2);
    assert_eq!(stream(&mut checker, &pieces(&["a.", "b.", "c.", "d."])), "a.b.c.");
    assert_eq!(checker.matched(), Some("."));
}

#[test]
fn without_stop_strings_everything_passes() {
    let mut checker = StopChecker::new(&[""], false, 0);
    assert_eq!(checker.push("any"), "any");
    assert_eq!(checker.matched(), None);
}
