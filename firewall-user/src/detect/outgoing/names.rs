//! The name that a DNS query asks for, as far as the sample holds it (RFC 1035 4.1).

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The last two labels, in lower case; empty when the sample ends before them.
    pub domain: Vec<u8>,
    /// What stands before them, dots included, as it was sent.
    pub below: Vec<u8>,
}

const HEADER: usize = 12;
const LONGEST_LABEL: u8 = 63;
/// Labels that make a domain.
const DOMAIN_LABELS: usize = 2;

/// Reads the first question of a query; `None` for an answer and for what is no DNS.
pub(super) fn question(payload: &[u8]) -> Option<Question> {
    let header = payload.get(..HEADER)?;
    let is_answer = header[2] & 0x80 != 0;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if is_answer || questions == 0 {
        return None;
    }
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut rest = &payload[HEADER..];
    let mut whole = false;
    while let Some((&length, after)) = rest.split_first() {
        if length == 0 {
            whole = true;
            break;
        }
        if length > LONGEST_LABEL {
            return None;
        }
        let taken = after.len().min(length.into());
        labels.push(&after[..taken]);
        rest = &after[taken..];
    }
    let below = if whole {
        labels.len().saturating_sub(DOMAIN_LABELS)
    } else {
        labels.len()
    };
    Some(Question {
        domain: labels[below..].join(&b'.').to_ascii_lowercase(),
        below: labels[..below].join(&b'.'),
    })
}

/// Whether a name spells an address, as in reverse lookups and in lists of addresses kept in the DNS
/// (RFC 5782): numbers, or single hexadecimal digits, between dots.
pub(super) fn is_address(below: &[u8]) -> bool {
    let mut labels = below.split(|byte| *byte == b'.');
    labels.all(|label| {
        let number = label.len() <= 3 && label.iter().all(u8::is_ascii_digit);
        let nibble = label.len() == 1 && label[0].is_ascii_hexdigit();
        number || nibble
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        bytes
    }

    #[test]
    fn a_name_is_parted_into_its_domain_and_what_is_below() {
        let asked = question(&query("Www.shop.Example.com")).expect("a question");
        assert_eq!(asked.domain, b"example.com");
        assert_eq!(asked.below, b"Www.shop");
        let asked = question(&query("example.com")).expect("a question");
        assert_eq!(
            (asked.domain.as_slice(), asked.below.len()),
            (&b"example.com"[..], 0)
        );
    }

    #[test]
    fn a_name_that_the_sample_cuts_has_no_domain() {
        let bytes = query("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbb.example.com");
        let asked = question(&bytes[..40]).expect("a question");
        assert!(asked.domain.is_empty());
        assert_eq!(asked.below.len(), 27);
    }

    #[test]
    fn answers_and_other_bytes_are_no_questions() {
        let mut answer = query("example.com");
        answer[2] |= 0x80;
        assert_eq!(question(&answer), None);
        assert_eq!(question(&[]), None);
        let mut strange = query("example.com");
        strange[12] = 0xc0;
        assert_eq!(question(&strange), None);
    }

    #[test]
    fn names_that_spell_addresses_are_told_from_others() {
        assert!(is_address(b"7.113.0.203"));
        assert!(is_address(b"1.0.0.0.8.b.d.0.1.0.0.2"));
        assert!(!is_address(b"www"));
        assert!(!is_address(b"7f3a.113"));
    }
}
