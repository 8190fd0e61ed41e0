//! A table, made ready for lines.

use super::{
    Access, ExtractError, Format, Place, UserTable, Wanted,
    error::Problem,
    format::Shape,
    json::Pointers,
    table::{ACCESS_FIELDS, Entry, MAX_FROM, TIME},
    text,
    value::{Kind, Value},
};
use record::UnixMillis;
use regex::{Regex, RegexBuilder};

/// The most memory of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 4 << 20;

/// How to read a line, and which value becomes what.
#[derive(Debug)]
pub(super) struct Plan {
    reader: Reader,
    rules: Vec<Rule>,
    /// Values for the time.
    time: Vec<(usize, Kind)>,
}

/// The field is the first of these values that is there.
#[derive(Debug)]
struct Rule {
    field: &'static str,
    from: Vec<(usize, Kind)>,
}

#[derive(Debug)]
enum Reader {
    Json(Pointers),
    Text(Format, &'static text::Format),
    Regex(Regex),
}

impl Plan {
    /// `None` if nothing is extracted.
    pub(super) fn new(format: Format, user: &UserTable) -> Result<Option<Self>, ExtractError> {
        let (shape, table) = format.shape();
        let Some(mut reader) = Reader::new(format, shape, user.pattern.as_deref())? else {
            return match user.fields.is_empty() {
                true => Ok(None),
                false => Err(Problem::NoFieldsPossible(format).at(Place::Format)),
            };
        };
        let known = |name: &str| name == TIME || ACCESS_FIELDS.contains(&name);
        if let Some(unknown) = user.fields.keys().find(|name| !known(name)) {
            return Err(Problem::UnknownField.of(unknown));
        }
        let mut from = |field| match user.fields.get(field) {
            Some(wanted) => reader.wanted(field, wanted),
            None => reader.predefined(field, table),
        };
        let mut rules = Vec::with_capacity(ACCESS_FIELDS.len());
        for field in ACCESS_FIELDS {
            rules.push(Rule { field, from: from(field)? });
        }
        let time = from(TIME)?;
        rules.retain(|rule| !rule.from.is_empty());
        if rules.is_empty() && time.is_empty() {
            return Err(Problem::NothingWanted(format).at(Place::Format));
        }
        Ok(Some(Plan { reader, rules, time }))
    }

    pub(super) fn extract<'a>(&self, line: &'a str) -> Access<'a> {
        let Some(values) = self.reader.read(line) else { return Access::default() };
        let mut fields = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let mut found = rule.from.iter().map(|(at, kind)| values[*at].field(rule.field, *kind));
            if let Some(value) = found.find(|value| !value.is_empty()) {
                fields.push((rule.field, value));
            }
        }
        Access { time: self.time(&values), fields }
    }

    fn time(&self, values: &[Value<'_>]) -> Option<UnixMillis> {
        self.time.iter().find_map(|(at, kind)| match kind {
            Kind::Time(clock) => values[*at].time(*clock),
            Kind::Plain | Kind::Duration(_) => None,
        })
    }
}

impl Reader {
    fn new(
        format: Format,
        shape: Shape,
        pattern: Option<&str>,
    ) -> Result<Option<Self>, ExtractError> {
        let reader = match (shape, pattern) {
            (Shape::Regex, None) => return Err(Problem::PatternMissing.at(Place::Format)),
            (Shape::Regex, Some(pattern)) => Reader::Regex(compile(pattern)?),
            (_, Some(_)) => return Err(Problem::PatternUnused(format).at(Place::Pattern)),
            (Shape::Nothing, None) => return Ok(None),
            (Shape::Json, None) => Reader::Json(Pointers::new()),
            (Shape::Text(parts), None) => Reader::Text(format, parts),
        };
        Ok(Some(reader))
    }

    fn predefined(
        &mut self,
        field: &str,
        table: &[Entry],
    ) -> Result<Vec<(usize, Kind)>, ExtractError> {
        let entries = table.iter().filter(|entry| entry.field == field);
        let from = entries.flat_map(|entry| entry.from.iter().map(|from| (*from, entry.kind)));
        from.map(|(from, kind)| Ok((self.slot(from).map_err(|p| p.of(field))?, kind))).collect()
    }

    fn wanted(
        &mut self,
        field: &str,
        wanted: &[Wanted],
    ) -> Result<Vec<(usize, Kind)>, ExtractError> {
        if wanted.len() > MAX_FROM {
            return Err(Problem::TooMany.of(field));
        }
        let slot = |wanted: &Wanted| Ok((self.slot(&wanted.from)?, wanted.kind(field)?));
        wanted
            .iter()
            .map(slot)
            .collect::<Result<_, _>>()
            .map_err(|problem: Problem| problem.of(field))
    }

    /// The place of a value.
    fn slot(&mut self, from: &str) -> Result<usize, Problem> {
        let shown = || from.chars().take(100).collect();
        match self {
            Reader::Json(pointers) => pointers.add(from).ok_or_else(|| Problem::Pointer(shown())),
            Reader::Text(format, text) => {
                let at = text.parts.iter().position(|part| *part == from);
                let known = || text.parts.iter().map(ToString::to_string).collect();
                let format = *format;
                at.ok_or_else(|| Problem::UnknownPart { from: shown(), format, known: known() })
            }
            Reader::Regex(regex) => {
                let at = regex.capture_names().position(|name| name == Some(from));
                let known = || regex.capture_names().flatten().map(str::to_owned).collect();
                at.ok_or_else(|| Problem::UnknownGroup { from: shown(), known: known() })
            }
        }
    }

    /// The values of a line; `None` if it is not in the format.
    fn read<'a>(&self, line: &'a str) -> Option<Vec<Value<'a>>> {
        match self {
            Reader::Json(pointers) => {
                let mut values = nothing(pointers.slots());
                pointers.read(line, &mut values)?;
                Some(values)
            }
            Reader::Text(_, text) => {
                let mut values = nothing(text.parts.len());
                (text.read)(line, &mut values)?;
                Some(values)
            }
            Reader::Regex(regex) => {
                let found = regex.captures(line)?;
                let value = |group: Option<regex::Match<'a>>| {
                    group.map_or(Value::Nothing, |group| Value::text(group.as_str()))
                };
                Some(found.iter().map(value).collect())
            }
        }
    }
}

fn nothing<'a>(count: usize) -> Vec<Value<'a>> {
    std::iter::repeat_with(Value::default).take(count).collect()
}

fn compile(pattern: &str) -> Result<Regex, ExtractError> {
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build().map_err(|error| {
        // The last line of several says what is wrong; the others draw the pattern.
        let text = error.to_string();
        let problem = text.lines().last().unwrap_or_default();
        let problem = problem.strip_prefix("error: ").unwrap_or(problem);
        Problem::Pattern(problem.to_owned()).at(Place::Pattern)
    })
}
