//! The status lines of all torrents on a terminal of any size: those that move or fail first, the rest in one line.

use super::progress::{View, state_word};
use super::text::{count, cut, rate};
use crate::api::State;

/// The order in which torrents are shown where there is no room for all.
fn rank(view: &View) -> u8 {
    let p = &view.progress;
    match view.state {
        _ if view.failed() => 1,
        _ if p.download_rate > 0 || p.upload_rate > 0 => 0,
        Some(State::Metadata | State::Checking) => 0,
        Some(State::Downloading) => 2,
        None => 3,
        Some(State::Paused) => 4,
        Some(State::Seeding) => 5,
        _ => 6,
    }
}

/// At most as many lines as the terminal has room for, with the cursor below them; one at least. The last is `stopping`
/// when the program ends.
pub(crate) fn status_lines(views: &[View], (columns, rows): (usize, usize), stopping: bool) -> Vec<String> {
    let width = columns.saturating_sub(1);
    let mut room = rows.saturating_sub(1).max(1);
    let mut last = Vec::new();
    if stopping {
        last.push(cut("stopping...", width));
        room -= 1;
    }
    if views.len() <= room {
        let mut lines: Vec<String> = views.iter().map(|view| view.status_line(columns)).collect();
        if views.len() > 1 && views.len() < room {
            lines.push(cut(&format!("{}: {}", count(views.len() as u64, "torrent"), rates(views)), width));
        }
        lines.append(&mut last);
        return lines;
    }
    let mut order: Vec<&View> = views.iter().collect();
    order.sort_by_key(|view| rank(view));
    let (shown, rest) = order.split_at(room.saturating_sub(1));
    let mut lines: Vec<String> = shown.iter().map(|view| view.status_line(columns)).collect();
    if room > 0 {
        lines.push(sum(rest, shown.is_empty(), &rates(views), width));
    }
    lines.append(&mut last);
    lines
}

/// What all of them move.
fn rates(views: &[View]) -> String {
    let total = |of: fn(&View) -> u64| views.iter().map(of).fold(0, u64::saturating_add);
    let (down, up) = (total(|v| v.progress.download_rate), total(|v| v.progress.upload_rate));
    format!("{} down  {} up", rate(down), rate(up))
}

/// The line of those that have none. Where it is too long, what fails comes first.
fn sum(rest: &[&View], all: bool, rates: &str, width: usize) -> String {
    const ORDER: [State; 6] =
        [State::Seeding, State::Downloading, State::Metadata, State::Checking, State::Paused, State::Stopped];
    let number = |is: &dyn Fn(&View) -> bool, word: &str| {
        let n = rest.iter().filter(|view| is(view)).count();
        (n > 0).then(|| format!("{n} {word}"))
    };
    let mut parts: Vec<String> = ORDER
        .iter()
        .filter_map(|state| number(&|view| view.state == Some(*state), state_word(*state)))
        .chain(number(&|view| view.state.is_none(), "starting"))
        .chain(number(&View::failed, "failed"))
        .collect();
    let head = if all { count(rest.len() as u64, "torrent") } else { format!("{} more", rest.len()) };
    let line = format!("{head}: {}", parts.join(", "));
    if super::text::width(&line) > width {
        parts.reverse();
        return cut(&format!("{head}: {}", parts.join(", ")), width);
    }
    cut(&format!("{line}  {rates}"), width)
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::view;
    use super::super::text::width;
    use super::*;

    fn idle(name: &str, state: State) -> View {
        let mut view = view(name, state);
        (view.progress.download_rate, view.progress.upload_rate) = (0, 0);
        view
    }

    #[test]
    fn those_that_move_or_fail_come_first_and_the_rest_is_one_line() {
        let mut views: Vec<View> = (0..40).map(|i| idle(&format!("t{i}"), State::Seeding)).collect();
        for view in &mut views[30..36] {
            *view = idle("stuck", State::Downloading);
        }
        views[39] = view("moves", State::Downloading);
        (views[37], views[38]) = (idle("bad", State::Error), idle("worse", State::Error));
        let lines = status_lines(&views, (80, 5), false);
        let starts =
            ["moves ", "bad ", "worse ", "37 more: 31 seeding, 6 downloading  3.0 MiB/s down  120 KiB/s up"];
        assert_eq!(lines.len(), starts.len());
        assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:?}");
        let lines = status_lines(&views, (80, 3), false);
        assert!(lines[1].starts_with("39 more: 31 seeding, 6 downloading, 2 failed  3.0 MiB/s"), "{lines:?}");
        assert_eq!(status_lines(&views, (20, 3), false)[1], "39 more: 2 failed,~");
        assert_eq!(status_lines(&views, (34, 1), false), ["40 torrents: 2 failed, 7 downloa~"]);
        assert_eq!(status_lines(&views, (80, 5), true).last().map(String::as_str), Some("stopping..."));
    }

    #[test]
    fn no_terminal_is_too_small() {
        let states = [State::Seeding, State::Error, State::Downloading, State::Paused, State::Checking];
        let wide = "日本語のとても長い名前のファイルですよ";
        for n in [1, 2, 3, 30] {
            let views: Vec<View> = (0..n).map(|i| view(wide, states[i % states.len()])).collect();
            for (rows, columns) in (0..40).flat_map(|rows| (0..90).map(move |columns| (rows, columns))) {
                for stopping in [false, true] {
                    let lines = status_lines(&views, (columns, rows), stopping);
                    assert!((1..=rows.saturating_sub(1).max(1)).contains(&lines.len()), "{rows}: {lines:?}");
                    assert!(lines.iter().all(|line| width(line) <= columns.saturating_sub(1)), "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn totals_have_a_line_where_there_is_room() {
        let views = [view("a", State::Downloading), view("b", State::Seeding)];
        assert_eq!(status_lines(&views, (80, 3), false).len(), 2);
        let lines = status_lines(&views, (80, 4), false);
        assert_eq!(lines[2], "2 torrents: 6.0 MiB/s down  240 KiB/s up");
        assert_eq!(status_lines(&views[..1], (80, 24), false).len(), 1);
    }
}
