//! `--help` of every command, and mistakes on the command line.

mod common;

use common::{failure, stdout};

#[test]
fn every_command_explains_itself_with_examples() {
    let commands: [&[&str]; 7] =
        [&[], &["serve"], &["chat"], &["run"], &["doctor"], &["bench", "throughput"], &["bench", "latency"]];
    for command in commands {
        let help = stdout(&[command, &["--help"]].concat(), "");
        assert!(help.contains("Usage: millrace") && help.contains("Examples:\n"), "{command:?}: {help}");
    }
    assert!(stdout(&["bench", "--help"], "").contains("throughput"));
    assert!(stdout(&["--version"], "").starts_with("millrace "));
}

#[test]
fn flags_are_grouped_and_have_their_defaults() {
    let help = stdout(&["serve", "--help"], "");
    for part in
        ["Server:\n", "Model:\n", "Engine:\n", "[default: 8000]", "[default: 512]", "[env: MILLRACE_API_KEY]"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn mistakes_are_told_with_code_2() {
    assert!(failure(&[], 2).contains("Usage: millrace"));
    assert!(failure(&["serve", "--prot", "1"], 2).contains("--port"));
    assert!(failure(&["serve", "--max-num-seqs", "0"], 2).contains("whole number of at least 1"));
    assert!(failure(&["serve", "--kv-cache-memory", "1X"], 2).contains("no unit of memory"));
    assert!(failure(&["serve", "--quantize", "q5"], 2).contains("possible values: none, q8, q4"));
    assert!(failure(&["run"], 2).contains("<PROMPT>"));
}
