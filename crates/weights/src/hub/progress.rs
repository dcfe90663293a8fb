//! Progress of a transfer: a bar on a terminal, a line in the log otherwise.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for one file of `size` bytes, of which `have` are there. Hidden unless stderr is a terminal.
pub(crate) fn bar(file: &str, size: u64, have: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        tracing::info!(file, size, have, "downloading");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    let template = "{msg:30!} {bar:30} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>13} {eta:>4}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(file.to_owned());
    bar.set_position(have);
    // The rate is of this transfer; what an earlier one brought doesn't count.
    bar.reset_eta();
    bar
}
