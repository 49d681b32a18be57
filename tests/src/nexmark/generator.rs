//! Nexmark's events, made up by rule: people, auctions and bids as 1 : 3 : 46, with few of each that are much in demand. Never reads a clock.
//!
//! What event `n` says follows from the seed and `n` alone. [`Events::disorder`] changes the order in which events are written, not what they say.
//! The shape is that of Nexmark (ratios, sizes, how far bids look back); the content is our own, so results can be compared on the same files only.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::random::Random;

/// The table that an event belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// Who sells and bids.
    Person,
    /// What is sold.
    Auction,
    /// What is offered for it.
    Bid,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// Its name in SQL, and that of its file without `.jsonl`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }
}

/// A sequence of events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Events {
    /// How many.
    pub count: u64,
    /// Events for each second of event time.
    pub rate: u64,
    /// Time of the first event, milliseconds since 1970.
    pub start: i64,
    /// Groups of this many events are written in random order; 1 is in order.
    pub disorder: u64,
    /// Another seed, other events.
    pub seed: u64,
    /// Bytes of people, auctions and bids, as Nexmark counts them (8 for a number, the length of a text); `None` leaves them as short as they are.
    pub sizes: Option<[u64; 3]>,
}

/// For how long a watermark waits, in milliseconds: events may be late by this much.
pub const MAX_DELAY_MS: u64 = 4_000;
/// Nexmark's sizes of people, auctions and bids.
pub const SIZES: [u64; 3] = [200, 500, 100];

/// In 50 events: one person, three auctions, 46 bids.
const PERIOD: u64 = 50;
const AUCTIONS: u64 = 3;
const FIRST_ID: u64 = 1000;
/// Of so many people or auctions one is in demand: the one that opened the hundred.
const HOT: u64 = 100;
/// Auctions that bids look back to.
const IN_FLIGHT: u64 = 100;
/// People who act.
const ACTIVE: u64 = 1000;
/// People and auctions that are referred to before they are there.
const LEAD: u64 = 10;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

const FIRST_NAMES: [&str; 11] = ["Ada", "Bela", "Carl", "Dana", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kira"];
const LAST_NAMES: [&str; 9] = ["Adler", "Brandt", "Castro", "Dubois", "Evans", "Fischer", "Garcia", "Haas", "Ito"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

impl Events {
    /// Sequences that cannot be: late rows, whose fate would depend on the engine's timing.
    ///
    /// # Errors
    /// What cannot be, and what could.
    pub fn check(&self) -> Result<()> {
        ensure!(self.count > 0 && self.rate > 0 && self.disorder > 0, "count, rate and disorder must be at least 1");
        let late = (self.disorder - 1) * 1000 / self.rate;
        ensure!(
            late < MAX_DELAY_MS,
            "with {} events/s a disorder of {} makes events late by up to {late} ms, and watermarks wait for {MAX_DELAY_MS}: choose at most {}",
            self.rate,
            self.disorder,
            self.rate * MAX_DELAY_MS / 1000
        );
        Ok(())
    }

    /// How many of them are of a table.
    #[must_use]
    pub fn of(&self, table: Table) -> u64 {
        let (periods, rest) = (self.count / PERIOD, self.count % PERIOD);
        let people = periods + rest.min(1);
        let auctions = periods * AUCTIONS + rest.saturating_sub(1).min(AUCTIONS);
        match table {
            Table::Person => people,
            Table::Auction => auctions,
            Table::Bid => self.count - people - auctions,
        }
    }

    /// Numbers of the events in the order in which they are written.
    pub fn order(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.count).step_by(usize::try_from(self.disorder).unwrap_or(usize::MAX)).flat_map(move |first| {
            let mut group: Vec<u64> = (first..self.count.min(first + self.disorder)).collect();
            let mut random = Random::new(!self.seed, first);
            for last in (1..group.len()).rev() {
                let other = usize::try_from(random.below(last as u64 + 1)).unwrap_or(0);
                group.swap(last, other);
            }
            group
        })
    }

    /// Appends event `n` to `line` as a JSON object, without an end of line.
    pub fn write(&self, n: u64, line: &mut Vec<u8>) -> Table {
        let random = Random::new(self.seed, n);
        let time = self.start + i64::try_from(n.saturating_mul(1000) / self.rate).unwrap_or(0);
        let event = Event { events: self, time, people: n / PERIOD + 1, auctions: n / PERIOD * AUCTIONS + (n % PERIOD).min(AUCTIONS) };
        let object = Object { random, line, size: 0, separator: b'{' };
        match n % PERIOD {
            0 => event.person(object),
            1..=AUCTIONS => event.auction(object),
            _ => event.bid(object),
        }
    }

    /// Writes `person.jsonl`, `auction.jsonl` and `bid.jsonl` into `folder`, which must be there. Returns how many lines each has.
    ///
    /// # Errors
    /// [`Events::check`], or a file cannot be written.
    pub fn write_files(&self, folder: &Path) -> Result<[u64; 3]> {
        self.check()?;
        let open = |table: Table| {
            let path = folder.join(format!("{}.jsonl", table.name()));
            File::create(&path).with_context(|| format!("create {}", path.display())).map(|file| BufWriter::with_capacity(1 << 20, file))
        };
        let mut files = [open(Table::Person)?, open(Table::Auction)?, open(Table::Bid)?];
        let (mut line, mut counts) = (Vec::new(), [0; 3]);
        for n in self.order() {
            line.clear();
            let table = self.write(n, &mut line) as usize;
            line.push(b'\n');
            files[table].write_all(&line).context("write events")?;
            counts[table] += 1;
        }
        for mut file in files {
            file.flush().context("write events")?;
        }
        Ok(counts)
    }
}

/// What all fields of one event depend on.
struct Event<'a> {
    events: &'a Events,
    time: i64,
    /// People so far.
    people: u64,
    /// Auctions so far, this one included.
    auctions: u64,
}

impl Event<'_> {
    fn person(&self, mut object: Object<'_>) -> Table {
        object.number("id", FIRST_ID + self.people - 1);
        let name = format!("{} {}", object.random.choose(&FIRST_NAMES), object.random.choose(&LAST_NAMES));
        object.text("name", &name);
        object.random_text("emailAddress", 7, "@", 5, ".com");
        let card: Vec<String> = (0..4).map(|_| format!("{:04}", object.random.below(10_000))).collect();
        object.text("creditCard", &card.join(" "));
        let (city, state) = (object.random.choose(&CITIES), object.random.choose(&STATES));
        object.text("city", city);
        object.text("state", state);
        object.time("dateTime", self.time);
        self.end(object, Table::Person)
    }

    fn auction(&self, mut object: Object<'_>) -> Table {
        object.number("id", FIRST_ID + self.auctions - 1);
        let (name, description) = (5 + object.random.below(15), 20 + object.random.below(60));
        object.random_text("itemName", name, "", 0, "");
        object.random_text("description", description, "", 0, "");
        let initial = price(&mut object.random);
        object.number("initialBid", initial);
        let reserve = initial + price(&mut object.random);
        object.number("reserve", reserve);
        object.time("dateTime", self.time);
        // As long as it takes until as many auctions have been opened as are in flight, on average.
        let horizon = (IN_FLIGHT * PERIOD / AUCTIONS * 1000 / self.events.rate).max(1);
        let length = 1 + object.random.below(horizon * 2);
        object.time("expires", self.time + i64::try_from(length).unwrap_or(0));
        let seller = self.someone(&mut object.random, 0);
        object.number("seller", seller);
        let category = FIRST_CATEGORY + object.random.below(CATEGORIES);
        object.number("category", category);
        self.end(object, Table::Auction)
    }

    fn bid(&self, mut object: Object<'_>) -> Table {
        let last = self.auctions - 1;
        let auction = if object.random.below(2) == 0 {
            last / HOT * HOT
        } else {
            let first = last.saturating_sub(IN_FLIGHT);
            first + object.random.below(last - first + 1 + LEAD)
        };
        object.number("auction", FIRST_ID + auction);
        let bidder = self.someone(&mut object.random, 1);
        object.number("bidder", bidder);
        let offered = price(&mut object.random);
        object.number("price", offered);
        if object.random.below(2) == 0 {
            let channel = object.random.choose(&HOT_CHANNELS);
            object.text("channel", channel);
            // Each of these has an address of its own, always the same.
            let mut fixed = Random::new(channel.len() as u64, u64::from(channel.as_bytes()[0]));
            object.address(&mut fixed, None);
        } else {
            let channel = object.random.below(CHANNELS);
            object.text("channel", &format!("channel-{channel}"));
            let tagged = object.random.below(10) > 0;
            let mut own = object.random.clone();
            object.address(&mut own, tagged.then_some(channel.wrapping_mul(2_654_435_761) % (1 << 31)));
        }
        object.time("dateTime", self.time);
        self.end(object, Table::Bid)
    }

    /// One of the people: three times out of four the one in demand, which is not the same for sellers and bidders.
    fn someone(&self, random: &mut Random, which: u64) -> u64 {
        let last = self.people - 1;
        if random.below(4) > 0 {
            return FIRST_ID + last / HOT * HOT + which;
        }
        let first = last.saturating_sub(ACTIVE);
        FIRST_ID + first + random.below(last - first + 1 + LEAD)
    }

    fn end(&self, mut object: Object<'_>, table: Table) -> Table {
        let length = match self.events.sizes {
            None => object.random.below(8),
            Some(sizes) => {
                let missing = sizes[table as usize].saturating_sub(object.size);
                // By up to a fifth shorter or longer.
                let fifth = missing / 5;
                missing - fifth + object.random.below(2 * fifth + 1)
            }
        };
        object.random_text("extra", length, "", 0, "");
        object.line.push(b'}');
        table
    }
}

/// From 100 to 100 million, as many of each order of magnitude.
fn price(random: &mut Random) -> u64 {
    let unit = 10_u64.pow(u32::try_from(random.below(6)).unwrap_or(0));
    (100 + random.below(900)) * unit + random.below(unit)
}

/// A JSON object that is being written.
struct Object<'a> {
    random: Random,
    line: &'a mut Vec<u8>,
    /// As Nexmark counts.
    size: u64,
    separator: u8,
}

impl Object<'_> {
    fn key(&mut self, name: &str) {
        self.line.push(std::mem::replace(&mut self.separator, b','));
        self.line.push(b'"');
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        self.line.extend_from_slice(value.to_string().as_bytes());
        self.size += 8;
    }

    /// A text that needs no escapes.
    fn text(&mut self, name: &str, value: &str) {
        self.key(name);
        self.line.push(b'"');
        self.line.extend_from_slice(value.as_bytes());
        self.line.push(b'"');
        self.size += value.len() as u64;
    }

    /// Letters, `middle`, letters, `end`.
    fn random_text(&mut self, name: &str, first: u64, middle: &str, second: u64, end: &str) {
        self.key(name);
        self.line.push(b'"');
        self.random.letters(first, self.line);
        self.line.extend_from_slice(middle.as_bytes());
        self.random.letters(second, self.line);
        self.line.extend_from_slice(end.as_bytes());
        self.line.push(b'"');
        self.size += first + second + (middle.len() + end.len()) as u64;
    }

    fn address(&mut self, random: &mut Random, channel: Option<u64>) {
        self.key("url");
        let start = self.line.len();
        self.line.extend_from_slice(b"\"https://www.nexmark.com/");
        for _ in 0..3 {
            random.letters(5, self.line);
            self.line.push(b'/');
        }
        self.line.extend_from_slice(b"item.htm?query=1");
        if let Some(channel) = channel {
            self.line.extend_from_slice(format!("&channel_id={channel}").as_bytes());
        }
        self.line.push(b'"');
        self.size += (self.line.len() - start - 2) as u64;
    }

    fn time(&mut self, name: &str, milliseconds: i64) {
        self.text(name, &timestamp(milliseconds));
        self.size -= 23 - 8;
    }
}

/// `yyyy-MM-dd HH:mm:ss.SSS`, 23 characters for the years from 0 to 9999.
#[must_use]
pub fn timestamp(milliseconds: i64) -> String {
    let (days, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    // Days since 0000-03-01: a year then ends with its leap day, and months follow a pattern of five.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}",
        era * 400 + year + carried,
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    const EVENTS: Events = Events { count: 20_000, rate: 1000, start: 1_772_323_190_000, disorder: 1, seed: 7, sizes: Some(SIZES) };

    fn all(events: &Events) -> Vec<(Table, Value)> {
        let mut line = Vec::new();
        let parsed = events.order().map(|n| {
            line.clear();
            let table = events.write(n, &mut line);
            (table, serde_json::from_slice(&line).unwrap())
        });
        parsed.collect()
    }

    fn share(events: &[(Table, Value)], table: Table, of: impl Fn(&Value) -> bool) -> f64 {
        let all: Vec<&Value> = events.iter().filter(|(t, _)| *t == table).map(|(_, event)| event).collect();
        all.iter().filter(|event| of(event)).count() as f64 / all.len() as f64
    }

    #[test]
    fn events_of_each_table_are_known_before() {
        for count in [1, 2, 3, 4, 5, 49, 50, 51, 54, 1003] {
            let events = Events { count, ..EVENTS };
            let written = all(&events);
            for table in Table::ALL {
                assert_eq!(events.of(table), written.iter().filter(|(of, _)| *of == table).count() as u64, "{count} {table:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_gives_others() {
        assert_eq!(all(&EVENTS), all(&EVENTS));
        let (one, other) = (all(&EVENTS), all(&Events { seed: 8, ..EVENTS }));
        assert!(one.iter().zip(&other).all(|(one, other)| one != other));
        // Longer sequences start with the shorter ones.
        assert_eq!(all(&Events { count: 500, ..EVENTS })[..], one[..500]);
    }

    /// The golden results were made from such events: if they change, those have to be made anew.
    #[test]
    fn events_stay_as_they_are() {
        let mut lines = Vec::new();
        for (n, sizes) in [(0, None), (1, None), (4, None), (59, Some(SIZES))] {
            Events { sizes, ..EVENTS }.write(n, &mut lines);
            lines.push(b'\n');
        }
        assert_eq!(String::from_utf8(lines).unwrap(), include_str!("some-events.jsonl"));
    }

    #[test]
    fn ratios_and_sizes_are_those_of_nexmark() {
        let events = all(&EVENTS);
        let count = |table| events.iter().filter(|(t, _)| *t == table).count();
        assert_eq!((count(Table::Person), count(Table::Auction), count(Table::Bid)), (400, 1200, 18_400));
        let near = |share: f64, wanted: f64| assert!((share - wanted).abs() < 0.02, "{share} is not {wanted}");
        near(share(&events, Table::Bid, |bid| bid["auction"].as_u64().unwrap() % 100 == 0), 0.5);
        near(share(&events, Table::Bid, |bid| bid["bidder"].as_u64().unwrap() % 100 == 1), 0.75);
        near(share(&events, Table::Auction, |auction| auction["seller"].as_u64().unwrap() % 100 == 0), 0.75);
        near(share(&events, Table::Bid, |bid| !bid["channel"].as_str().unwrap().starts_with("channel-")), 0.5);
        near(share(&events, Table::Bid, |bid| bid["url"].as_str().unwrap().contains("&channel_id=")), 0.45);
        near(share(&events, Table::Auction, |auction| auction["category"] == 10), 0.2);
        for (table, wanted) in Table::ALL.into_iter().zip(SIZES) {
            let sizes: Vec<u64> = events.iter().filter(|(t, _)| *t == table).map(|(_, event)| size(event)).collect();
            let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
            assert!((mean / wanted as f64 - 1.0).abs() < 0.3, "{} has {mean} bytes", table.name());
        }
    }

    fn size(event: &Value) -> u64 {
        let of = |(name, value): (&String, &Value)| match value.as_str() {
            Some(text) if name != "dateTime" && name != "expires" => text.len() as u64,
            _ => 8,
        };
        event.as_object().unwrap().iter().map(of).sum()
    }

    #[test]
    fn bids_refer_to_what_there_is_or_soon_will_be() {
        let mut known: BTreeMap<Table, u64> = BTreeMap::new();
        for (table, event) in all(&EVENTS) {
            if table == Table::Bid {
                assert!(event["auction"].as_u64().unwrap() <= known[&Table::Auction] + LEAD);
                assert!(event["bidder"].as_u64().unwrap() <= known[&Table::Person] + LEAD);
            } else {
                known.insert(table, event["id"].as_u64().unwrap());
            }
        }
    }

    #[test]
    fn disorder_changes_the_order_and_nothing_else() {
        let shuffled = Events { disorder: 300, ..EVENTS };
        shuffled.check().unwrap();
        let (order, plain): (Vec<u64>, Vec<u64>) = (shuffled.order().collect(), EVENTS.order().collect());
        assert_ne!(order, plain);
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), plain.iter().copied().collect());
        let mut latest = 0;
        for n in order {
            assert!(n + 300 > latest);
            latest = latest.max(n);
        }
    }

    #[test]
    fn disorder_that_makes_rows_late_is_refused() {
        Events { rate: 100, disorder: 400, ..EVENTS }.check().unwrap();
        let refused = Events { rate: 100, disorder: 401, ..EVENTS }.check().unwrap_err().to_string();
        assert!(refused.contains("at most 400"), "{refused}");
    }

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00.000");
        assert_eq!(timestamp(1_709_251_199_999), "2024-02-29 23:59:59.999");
        assert_eq!(timestamp(1_772_323_199_000), "2026-02-28 23:59:59.000");
        assert_eq!(timestamp(1_772_323_200_001), "2026-03-01 00:00:00.001");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999");
    }
}
