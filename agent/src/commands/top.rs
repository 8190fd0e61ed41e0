//! `top`: the running agent, looked at again and again.

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Gauge, Paragraph, Row, Table},
};
use service::exit;

use super::status::problems;
use crate::{
    cli::TopArgs,
    control::{Client, ClientError, SourceStatus, Status},
    pulse::lasting,
};

/// Watches until a person has seen enough.
pub fn execute(args: &TopArgs) -> ExitCode {
    let result = super::socket(&args.agent).map_err(|error| error.to_string()).and_then(|socket| {
        // What cannot be asked is said before the screen is taken.
        Client::status(&socket).map_err(|error| error.to_string())?;
        let mut terminal =
            ratatui::try_init().map_err(|error| format!("no terminal to draw on: {error}"))?;
        let delay = Duration::from_secs(args.delay);
        let watched = watch(&mut terminal, delay, || Client::status(&socket));
        ratatui::restore();
        watched.map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("{}: {error}", super::PROGRAM);
            ExitCode::from(exit::USAGE)
        }
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    delay: Duration,
    ask: impl Fn() -> Result<Status, ClientError>,
) -> io::Result<()> {
    loop {
        let answer = ask();
        terminal.draw(|frame| match &answer {
            Ok(status) => draw(frame, status),
            Err(error) => frame.render_widget(Paragraph::new(error.to_string()), frame.area()),
        })?;
        let next = Instant::now() + delay;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if event::poll(left)? && is_end(&event::read()?) {
                return Ok(());
            }
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let quits = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL));
    key.kind == KeyEventKind::Press && quits
}

fn draw(frame: &mut Frame<'_>, status: &Status) {
    let mut head = vec![
        Line::from(format!(
            "agent '{}' of the ledger '{}', up for {}",
            status.agent,
            status.ledger,
            lasting(status.uptime_s)
        )),
        Line::from(format!(
            "{:.1} records/s   {} sealed, {} receipted, {} wait   last receipt {}",
            status.log.rate,
            status.log.sealed,
            status.log.receipted,
            status.spool.records_waiting,
            status.uplink.last_receipt.as_deref().unwrap_or("none yet"),
        )),
    ];
    for node in &status.uplink.nodes {
        let (mark, colour) =
            if node.connected { ("●", Color::Green) } else { ("○", Color::Gray) };
        let problem = node.problem.as_deref().unwrap_or_default();
        head.push(Line::styled(format!("{mark} {} {problem}", node.address), colour));
    }
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    head.extend(problems(status).into_iter().map(|problem| Line::styled(problem, red)));
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let [top, spool, sources, foot] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), top);
    frame.render_widget(gauge(status), spool);
    frame.render_widget(table(&status.sources), sources);
    frame.render_widget("q ends", foot);
}

fn gauge(status: &Status) -> Gauge<'static> {
    let spool = &status.spool;
    let ratio = spool.bytes as f64 / spool.limit_bytes.max(1) as f64;
    let lasts = spool.lasts_s.map_or("years".into(), lasting);
    let (used, limit) = (spool.bytes >> 20, spool.limit_bytes >> 20);
    let label = format!("spool {used} of {limit} MiB, lasts {lasts} without the ledger");
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(label)
        .gauge_style(Style::new().fg(Color::Blue).bg(Color::DarkGray))
}

fn table(sources: &[SourceStatus]) -> Table<'_> {
    let head =
        ["source", "kind", "lines", "/s", "behind", "conn", "last line", "last receipt", "from"];
    let clock = |time: &Option<String>| {
        let time = time.as_deref().unwrap_or("-");
        time.get(11..19).unwrap_or(time).to_owned()
    };
    let row = |source: &SourceStatus| {
        let cells = [
            source.name.clone(),
            source.kind.clone(),
            source.lines.to_string(),
            format!("{:.1}", source.rate),
            source.lag_bytes.to_string(),
            source.connections.to_string(),
            clock(&source.last_line),
            clock(&source.last_receipt),
            source.failure.clone().unwrap_or_else(|| source.from.clone()),
        ];
        let troubled = source.failure.is_some() || source.lost > 0;
        let style = if troubled { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(cells.map(Cell::from)).style(style)
    };
    let widths = [16, 8, 12, 9, 12, 5, 9, 12].map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Fill(1)]);
    Table::new(sources.iter().map(row), widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::REVERSED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let status: Status = serde_json::from_str(include_str!("status.json")).unwrap();
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
        terminal.draw(|frame| draw(frame, &status)).unwrap();
        let shown = terminal.backend().to_string();
        for text in [
            "agent 'gw01'",
            "1234.5 records/s",
            "node1:7514",
            "lasts 2 h 1 min",
            "kong",
            "10:02:27",
        ] {
            assert!(shown.contains(text), "{text} is missing from\n{shown}");
        }
        assert!(shown.contains("the source 'kong' does not run"), "{shown}");
        let said = crate::commands::status::text(&status);
        assert!(said.contains("! the source 'kong' does not run: port in use"), "{said}");
    }
}
