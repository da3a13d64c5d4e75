//! Data carried in DNS queries: what is asked for below one domain is new every time, and long.
//!
//! A name that was asked before is answered by a cache; so who carries data has to ask for new names,
//! and their letters are the data. What is counted are therefore the bytes of names below a domain that
//! were not asked for lately ("novel" bytes), per asker and domain.
//!
//! Of a name that is longer than what is shown of its packet the domain is not known. Whoever carries data asks
//! for such and shorter ones by turns, so they count for the domain below which the asker asks for most.

use firewall_common::sampling::Class;
use serde_json::{Map, Value, json};

use super::names::{self, Question};
use super::recent::Recent;
use super::{SECOND, asker};
use crate::detect::book::{Book, Details, Sign};
use crate::detect::hashed::HashMap;
use crate::detect::window::Window;
use crate::detect::{AlertKind, Sighting, Subject, Time, hash};

/// Names are remembered, and bytes counted, for a minute.
const SPAN: Time = 60 * SECOND;
/// Novel bytes in that time.
const BYTES: f64 = 600.0;
/// Over at least so many names, so long on average: a site with many host names has short ones.
const NAMES: f64 = 12.0;
const LENGTH: f64 = 16.0;
/// Bits of the memory of names: at 512 names, one in five new ones is taken for known.
const MEMORY_BITS: u64 = 2_048;
/// Pairs of asker and domain that are kept in mind.
const PAIRS: usize = 4_096;
const DNS: u16 = 53;

/// Who asks below what.
#[derive(Debug)]
pub(super) struct Tunnels {
    pairs: Recent<(Subject, Vec<u8>), Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    memory: Memory,
    /// Novel names and their bytes; all questions.
    sums: Window<3>,
    latest: Vec<u8>,
}

/// Names of one asker that are too long to be seen whole.
struct Cut<'a> {
    /// As in [`Asked::sums`].
    sums: [f64; 3],
    /// The domain below which the asker asks for most, and how many novel bytes that is; none, if it asks for nothing
    /// else.
    most: &'a [u8],
    bytes: f64,
}

/// Which names were asked for in this span and the one before: a Bloom filter of one hash for each.
#[derive(Debug)]
struct Memory {
    span: u64,
    current: [u64; (MEMORY_BITS / 64) as usize],
    earlier: [u64; (MEMORY_BITS / 64) as usize],
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            pairs: Recent::new(PAIRS, 2 * SPAN),
        }
    }
}

impl Tunnels {
    pub fn see(&mut self, at: Time, sighting: &Sighting) {
        if sighting.class != Class::Query || sighting.packet.destination_port != DNS {
            return;
        }
        let Some(Question { domain, below }) = names::question(sighting.payload()) else {
            return;
        };
        if below.is_empty() || names::is_address(&below) {
            return;
        }
        let Some(asked) = self.pairs.touch((asker(sighting), domain), at) else {
            return;
        };
        let novel = if asked.memory.learn(at, &below) {
            1.0
        } else {
            0.0
        };
        // What is not shown is not spoken for here: others may have asked it, below other domains.
        let bytes = below.len() as f64;
        asked.sums.add(at, at, SPAN, [novel, novel * bytes, 1.0]);
        if novel > 0.0 {
            asked.latest = below;
        }
    }

    pub fn judge(&mut self, book: &mut Book, now: Time) {
        self.pairs.forget(now);
        let cut = self.cut(now);
        let mut carriers = Vec::new();
        for ((subject, domain), asked) in self.pairs.iter() {
            let own = asked.sums.sums(now, SPAN);
            let [names, bytes, _] = own;
            // Long ones do not make up for a site with many short host names.
            if bytes < names * LENGTH {
                continue;
            }
            let more = cut
                .get(subject)
                .filter(|cut| cut.most == domain)
                .map_or([0.0; 3], |cut| cut.sums);
            let sums: [f64; 3] = std::array::from_fn(|at| own[at] + more[at]);
            if sums[0] >= NAMES {
                carriers.push((subject, domain, asked, sums));
            }
        }
        // Of the domains that one asks below, the alert tells of that with the most.
        carriers.sort_unstable_by(|(one, at, _, this), (other, below, _, that)| {
            that[1]
                .total_cmp(&this[1])
                .then((one, at).cmp(&(other, below)))
        });
        for (subject, domain, asked, [names, bytes, questions]) in carriers {
            let sign = Sign {
                kind: AlertKind::Tunnel,
                subject: *subject,
                observed: bytes.round(),
                expected: BYTES,
                unit: "bytes of new names/min",
                started: asked.sums.since(now, SPAN),
            };
            book.note(now, sign, || {
                details(subject, domain, names, bytes, questions, &asked.latest)
            });
        }
    }

    /// Who asked for names that are too long to be seen whole, and below which domain they count.
    fn cut(&self, now: Time) -> HashMap<Subject, Cut<'_>> {
        let unseen = self
            .pairs
            .iter()
            .filter(|((_, domain), _)| domain.is_empty());
        let mut cut: HashMap<Subject, Cut<'_>> = HashMap::default();
        for ((subject, _), asked) in unseen {
            let sums = asked.sums.sums(now, SPAN);
            if sums[0] > 0.0 {
                let (most, bytes) = (&[][..], 0.0);
                cut.insert(*subject, Cut { sums, most, bytes });
            }
        }
        if cut.is_empty() {
            return cut;
        }
        for ((subject, domain), asked) in self.pairs.iter() {
            let [_, bytes, _] = asked.sums.sums(now, SPAN);
            if let Some(cut) = cut.get_mut(subject)
                && !domain.is_empty()
                && (bytes, domain.as_slice()) > (cut.bytes, cut.most)
            {
                (cut.bytes, cut.most) = (bytes, domain);
            }
        }
        cut
    }
}

fn details(
    subject: &Subject,
    domain: &[u8],
    names: f64,
    bytes: f64,
    questions: f64,
    latest: &[u8],
) -> Details {
    let domain = if domain.is_empty() {
        "names too long to be seen whole".to_owned()
    } else {
        readable(domain)
    };
    let evidence: [(&str, Value); 7] = [
        ("carrier", json!("dns")),
        ("domain", json!(domain)),
        ("queries", json!(questions.round() as u64)),
        ("new_names", json!(names.round() as u64)),
        ("new_name_bytes", json!(bytes.round() as u64)),
        ("latest_name", json!(readable(latest))),
        ("window_seconds", json!(SPAN / SECOND)),
    ];
    Details {
        why: format!(
            "{subject} asked for {names:.0} new names below {domain} within a minute, {:.0} bytes each: \
             that is how data is carried in DNS queries.",
            bytes / names,
        ),
        evidence: Map::from_iter(evidence.map(|(key, value)| (key.to_owned(), value))),
    }
}

/// A name for people: what is not printable is escaped.
fn readable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            span: 0,
            current: [0; (MEMORY_BITS / 64) as usize],
            earlier: [0; (MEMORY_BITS / 64) as usize],
        }
    }
}

impl Memory {
    /// Remembers a name; whether it is new.
    fn learn(&mut self, at: Time, name: &[u8]) -> bool {
        let span = at / SPAN;
        if span > self.span {
            self.earlier = if span == self.span + 1 {
                self.current
            } else {
                [0; (MEMORY_BITS / 64) as usize]
            };
            self.current = [0; (MEMORY_BITS / 64) as usize];
            self.span = span;
        }
        let bit = hash(name) % MEMORY_BITS;
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        let known = (self.current[word] | self.earlier[word]) & mask != 0;
        self.current[word] |= mask;
        !known
    }
}
