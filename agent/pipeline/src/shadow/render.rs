//! Reports for people: one period as a page, several as a table with a verdict.

use super::report::{Example, Report, State};
use record::UnixSeconds;
use std::fmt::{self, Write};

/// The sum of several reports, and what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything added up; its period reaches from the first to the last report.
    pub sum: Report,
    /// How many reports.
    pub periods: usize,
    /// How many of them are not final.
    pub unfinished: usize,
}

impl Verdict {
    /// Adds up reports that are in the order of time.
    pub fn of(reports: &[Report]) -> Self {
        let mut sum = Report::default();
        for report in reports {
            if sum.period_s == 0 {
                (sum.start_s, sum.agent) = (report.start_s, report.agent.clone());
            }
            sum.period_s = report.end_s().saturating_sub(sum.start_s);
            add(&mut sum, report);
        }
        let unfinished = reports.iter().filter(|report| report.state != State::Final).count();
        Verdict { sum, periods: reports.len(), unfinished }
    }

    /// True if the old way neither lost nor altered a line and carried no foreign one.
    pub fn is_clean(&self) -> bool {
        self.sum.lost + self.sum.altered.total() + self.sum.only_there == 0
    }

    /// What the old way did, in a sentence.
    pub fn old_way(&self) -> String {
        let sum = &self.sum;
        let compared = compared(sum);
        if sum.sealed.lines + sum.old_feed.lines == 0 {
            return "There was nothing to compare: neither side had a line.".to_owned();
        }
        if compared == 0 && sum.only_there == 0 {
            return "No line could be compared; 'not compared' says why.".to_owned();
        }
        if sum.old_feed.lines == 0 {
            return format!(
                "The old feed delivered nothing at all, while {} lines were sealed: see that a copy \
                 of it comes here before you blame it.",
                number(sum.sealed.lines)
            );
        }
        let lost = match sum.lost {
            0 => format!("lost none of {} lines", number(compared)),
            lost => format!(
                "lost {} of {} lines ({})",
                number(lost),
                number(compared),
                percent(lost, compared)
            ),
        };
        let not = match sum.not_compared.sealed + sum.not_compared.old_feed {
            0 => String::new(),
            not => format!(" Not compared: {}.", lines(not)),
        };
        format!(
            "In {} the old way {lost}, altered {}, delivered {} twice, and carried {} that nobody \
             sealed here.{not}",
            span(sum.period_s),
            number(sum.altered.total()),
            number(sum.duplicated),
            number(sum.only_there),
        )
    }

    /// Whether the old way can be switched off, in a sentence.
    pub fn switch(&self) -> String {
        let sum = &self.sum;
        let undecided = sum.undecided.old_feed + sum.not_compared.old_feed;
        if sum.sealed.lines == 0 || sum.old_feed.lines == 0 {
            "Nothing can be said about switching.".to_owned()
        } else if sum.only_there > 0 {
            format!(
                "Do not switch yet: {} came by the old way only. Find out who sent that.",
                lines(sum.only_there)
            )
        } else if sum.sealed.waiting > 0 {
            format!(
                "Wait before you switch: {} have no receipt of the ledger yet.",
                lines(sum.sealed.waiting)
            )
        } else if undecided > 0 {
            format!(
                "Every line of the old feed that could be compared is in the ledger; {} could not be.",
                lines(undecided)
            )
        } else {
            "Every line that the old way delivered is in the ledger: switching loses nothing."
                .to_owned()
        }
    }
}

/// The lines of ours of which something was found out.
fn compared(report: &Report) -> u64 {
    report.delivered + report.altered.total() + report.lost
}

fn add(sum: &mut Report, report: &Report) {
    sum.sealed.lines += report.sealed.lines;
    sum.sealed.in_ledger += report.sealed.in_ledger;
    sum.sealed.waiting += report.sealed.waiting;
    sum.old_feed.lines += report.old_feed.lines;
    sum.old_feed.other_hosts += report.old_feed.other_hosts;
    sum.old_feed.dropped_here += report.old_feed.dropped_here;
    sum.delivered += report.delivered;
    sum.lost += report.lost;
    sum.altered.truncated += report.altered.truncated;
    sum.altered.escaped += report.altered.escaped;
    sum.altered.encoded += report.altered.encoded;
    sum.altered.other += report.altered.other;
    sum.duplicated += report.duplicated;
    sum.only_there += report.only_there;
    sum.not_compared.sealed += report.not_compared.sealed;
    sum.not_compared.old_feed += report.not_compared.old_feed;
    let (all, one) = (&mut sum.not_compared.reasons, &report.not_compared.reasons);
    all.too_many += one.too_many;
    all.missed_here += one.missed_here;
    all.behind += one.behind;
    all.interrupted += one.interrupted;
    all.empty += one.empty;
    sum.undecided.sealed += report.undecided.sealed;
    sum.undecided.old_feed += report.undecided.old_feed;
    sum.interrupted.extend(report.interrupted.iter().cloned());
}

/// The reports as a table, one a line, with the sum and the verdict.
pub fn table(reports: &[Report]) -> String {
    let verdict = Verdict::of(reports);
    let mut rows = vec![
        [
            "FROM (UTC)",
            "SEALED",
            "IN LEDGER",
            "OLD FEED",
            "DELIVERED",
            "LOST",
            "ALTERED",
            "TWICE",
            "ONLY THERE",
            "NOT COMPARED",
            "STATE",
        ]
        .map(str::to_owned),
    ];
    rows.extend(reports.iter().map(|report| row(&minute(report.start_s), state(report), report)));
    if reports.len() > 1 {
        rows.push(row("all", "", &verdict.sum));
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                10 => line.push_str(&format!("  {cell}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    notes(&mut out, &verdict.sum);
    format!("{out}\n{}\n{}\n", verdict.old_way(), verdict.switch())
}

fn row(first: &str, state: &str, report: &Report) -> [String; 11] {
    let not = report.not_compared.sealed + report.not_compared.old_feed;
    [
        first.to_owned(),
        number(report.sealed.lines),
        number(report.sealed.in_ledger),
        number(report.old_feed.lines),
        number(report.delivered),
        number(report.lost),
        number(report.altered.total()),
        number(report.duplicated),
        number(report.only_there),
        number(not),
        state.to_owned(),
    ]
}

fn state(report: &Report) -> &'static str {
    match report.state {
        State::Open => "open",
        State::Settled => "waits for receipts",
        State::Final => "final",
    }
}

/// What a reader must know so as not to draw the wrong conclusion.
fn notes(out: &mut String, report: &Report) {
    let dropped = report.old_feed.dropped_here;
    if dropped > 0 {
        let dropped = number(dropped);
        out.push_str(&format!(
            "Our own shadow listener dropped {dropped} messages (raise rcvbuf_kib and net.core.rmem_max): \
             as many lost lines are counted as not compared.\n"
        ));
    }
    let reasons = &report.not_compared.reasons;
    let said = [
        (reasons.behind, "while the agent began or was held back, or read too late"),
        (reasons.interrupted, "the agent was started again"),
        (reasons.missed_here, "missed here"),
        (reasons.too_many, "more waited than max_pending"),
        (reasons.empty, "lines without text"),
    ];
    let said: Vec<String> = said
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{} {why}", number(*count)))
        .collect();
    if !said.is_empty() {
        out.push_str(&format!("Not compared: {}.\n", said.join("; ")));
    }
    if report.old_feed.other_hosts > 0 {
        let others = number(report.old_feed.other_hosts);
        out.push_str(&format!("{others} lines of other hosts were left out.\n"));
    }
}

impl fmt::Display for Report {
    /// The page of one period.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = Verdict::of(std::slice::from_ref(self));
        let sources = match self.sources.is_empty() {
            true => "all sources".to_owned(),
            false => format!("source {}", self.sources.join(", ")),
        };
        writeln!(
            f,
            "The old syslog feed, compared with what agent {} sealed ({sources})",
            self.agent
        )?;
        let (from, to) = (minute(self.start_s), minute(self.end_s()));
        writeln!(f, "{from} to {to} UTC; {}", state(self))?;
        for time in &self.interrupted {
            writeln!(f, "the agent was started again at {time}")?;
        }
        writeln!(f, "\n{}\n{}\n", verdict.old_way(), verdict.switch())?;
        self.figures(f)?;
        let mut text = String::new();
        notes(&mut text, self);
        f.write_str(&text)?;
        let kinds = [
            ("LOST", self.lost, &self.examples.lost),
            ("ALTERED", self.altered.total(), &self.examples.altered),
            ("DELIVERED TWICE", self.duplicated, &self.examples.duplicated),
            ("ONLY IN THE OLD FEED", self.only_there, &self.examples.only_there),
        ];
        for (kind, count, examples) in kinds {
            section(f, kind, count, examples)?;
        }
        Ok(())
    }
}

impl Report {
    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, count: u64, more: &str| {
            let line = format!("{what:<34}{:>12}  {more}", number(count));
            writeln!(f, "{}", line.trim_end())
        };
        let (sealed, altered) = (&self.sealed, &self.altered);
        let ledger = format!(
            "in the ledger {}, waiting {}",
            number(sealed.in_ledger),
            number(sealed.waiting)
        );
        line("lines sealed by this agent", sealed.lines, &ledger)?;
        line("lines delivered by the old feed", self.old_feed.lines, "")?;
        line("  as they were", self.delivered, "")?;
        let part = percent(self.lost, compared(self));
        line("  LOST by the old way", self.lost, if self.lost > 0 { &part } else { "" })?;
        let kinds = [
            (altered.truncated, "cut short"),
            (altered.escaped, "control characters"),
            (altered.encoded, "encoding"),
            (altered.other, "otherwise"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{} {kind}", number(*count)))
            .collect();
        line("  ALTERED by the old way", altered.total(), &kinds.join(", "))?;
        line("  delivered twice", self.duplicated, "")?;
        line("  ONLY IN THE OLD FEED", self.only_there, "")?;
        line("  not compared, of ours", self.not_compared.sealed, "")?;
        line("  not compared, of the old feed", self.not_compared.old_feed, "")?;
        let undecided = self.undecided.sealed + self.undecided.old_feed;
        if undecided > 0 {
            line("  not decided yet", undecided, "")?;
        }
        Ok(())
    }
}

fn section(f: &mut fmt::Formatter<'_>, kind: &str, all: u64, examples: &[Example]) -> fmt::Result {
    if examples.is_empty() {
        return Ok(());
    }
    let shown = examples.len() as u64;
    match shown < all {
        true => writeln!(f, "\n{kind}: the first {shown} of {}", number(all))?,
        false => writeln!(f, "\n{kind}")?,
    }
    for example in examples {
        let record = example.record.map(|n| format!("  record {n}")).unwrap_or_default();
        let change = example.change.as_deref().map(|c| format!("  {c}")).unwrap_or_default();
        writeln!(f, "{}{record}{change}", example.time)?;
        for (who, text) in [("sealed", &example.sealed), ("old feed", &example.old_feed)] {
            if let Some(text) = text {
                writeln!(f, "    {who:<9} {text}")?;
            }
        }
    }
    Ok(())
}

/// `2026-11-21 10:00`, with seconds unless they are 0.
fn minute(seconds: u64) -> String {
    let text = UnixSeconds(seconds).to_string();
    let end = if seconds.is_multiple_of(60) { 16 } else { 19 };
    text[..end].replace('T', " ")
}

/// `98,310`.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{} lines", number(count)) }
}

/// With one digit behind the point; never 0.0 % of something.
fn percent(part: u64, whole: u64) -> String {
    let permille = (u128::from(part) * 1000 + u128::from(whole / 2)) / u128::from(whole.max(1));
    match permille {
        0 if part > 0 => "less than 0.1 %".to_owned(),
        _ => format!("{}.{} %", permille / 10, permille % 10),
    }
}

fn span(seconds: u64) -> String {
    let mut out = String::new();
    let written = match (seconds / 3600, seconds % 3600) {
        (1, 0) => write!(out, "1 hour"),
        (hours, 0) => write!(out, "{} hours", number(hours)),
        _ => write!(out, "{} seconds", number(seconds)),
    };
    debug_assert!(written.is_ok(), "text can be appended to a string");
    out
}
