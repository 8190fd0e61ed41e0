//! Realistic access-log lines: Kong's JSON, 200 to 600 bytes, each with a number of its own.

/// A seeded generator of lines; the same seed gives the same lines.
#[derive(Clone, Debug)]
pub struct Corpus {
    state: u64,
    next: u64,
    started_ms: u64,
}

const PURPOSES: [&str; 6] =
    ["戶籍謄本核發", "遷徙登記", "低收入戶審查", "選舉人名冊", "兵役調查", "稅籍比對"];
const PATHS: [(&str, &str); 5] = [
    ("household-read", "/v1/household"),
    ("person-read", "/v1/person"),
    ("address-search", "/v1/address"),
    ("certificate-issue", "/v1/certificate"),
    ("relation-read", "/v1/relation"),
];
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "python-requests/2.32",
    "CityDesk/4.2 (counter)",
];

impl Corpus {
    /// A generator; `started_ms` is the first line's time, milliseconds since 1970.
    pub fn new(seed: u64, started_ms: u64) -> Self {
        Corpus { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, next: 0, started_ms }
    }

    /// The number of the next line.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The next line, without a line feed. Its request id is `<prefix>-<number>`.
    pub fn line(&mut self, prefix: &str) -> String {
        let number = self.next;
        self.next += 1;
        let (route, path) = PATHS[self.pick(5)];
        let subject =
            format!("{}{:09}", (b'A' + self.pick(26) as u8) as char, self.pick(1_000_000_000));
        let (clerk, purpose) = (self.pick(240), PURPOSES[self.pick(6)]);
        let status = [200, 200, 200, 200, 404, 403][self.pick(6)];
        let size = 200 + self.pick(9000);
        let (proxy, kong) = (3 + self.pick(180), self.pick(6));
        let ip = format!("10.{}.{}.{}", self.pick(8), self.pick(200), 1 + self.pick(250));
        let started = self.started_ms + number;
        let headers = if self.pick(3) == 0 {
            String::new()
        } else {
            format!(",\"user-agent\":\"{}\",\"accept\":\"application/json\"", AGENTS[self.pick(3)])
        };
        format!(
            "{{\"request\":{{\"uri\":\"{path}/{subject}\",\"method\":\"GET\",\"id\":\"{prefix}-{number}\",\
             \"headers\":{{\"host\":\"api.city.example\",\"x-purpose\":\"{purpose}\",\"x-subject\":\"{subject}\"{headers}}}}},\
             \"response\":{{\"status\":{status},\"size\":{size}}},\
             \"latencies\":{{\"proxy\":{proxy},\"kong\":{kong},\"request\":{}}},\
             \"client_ip\":\"{ip}\",\"consumer\":{{\"username\":\"clerk{clerk:03}\"}},\
             \"route\":{{\"name\":\"{route}\"}},\"started_at\":{started}}}",
            proxy + kong
        )
    }

    fn pick(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % below as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_those_of_a_gateway_and_all_different() {
        let mut corpus = Corpus::new(1, 1_795_248_147_000);
        let lines: Vec<String> = (0..2000).map(|_| corpus.line("r")).collect();
        assert!(lines.iter().all(|line| (200..=600).contains(&line.len())));
        let mut sorted = lines.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), lines.len());
    }
}
