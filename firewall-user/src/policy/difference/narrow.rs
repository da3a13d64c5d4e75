//! Takes from the packets of a change what rules decide about earlier, as far as fewer words say it then.
//!
//! A rule that accepts ports 80 and 443 gets a third, 8443: the two versions of the rule and the default meet in
//! all three ports, but the first two are decided by the old version. "port 8443" is what people want
//! to read, not "port 80 443 8443, except what the rule decides earlier".

use super::field::Field;
use super::region::{Classes, Region};
use super::space::Space;

/// Fields of which a part can be told in the words of the language. A part of the others is a list of
/// combinations, or a time at which something begins.
const PARTIAL: [Field; 11] = [
    Field::Source,
    Field::Destination,
    Field::Protocol,
    Field::SourcePort,
    Field::DestinationPort,
    Field::TcpWindow,
    Field::IcmpType,
    Field::Length,
    Field::Ttl,
    Field::Vlan,
    Field::Interface,
];
/// Rounds through the others: what one of them takes may let another take more.
const ROUNDS: usize = 4;

/// The packets of `region` without those of `others` that differ from it in one field alone, where that
/// makes the field no longer to tell.
pub(super) fn narrowed(space: &Space, region: Region, others: &[&Region]) -> Region {
    let told = |field: Field, classes: &Classes| space.ranges(field, classes).len();
    shortened(region, others, &told)
}

/// The same; `told` says how long the words for some classes of a field are.
fn shortened(
    mut region: Region,
    others: &[&Region],
    told: &dyn Fn(Field, &Classes) -> usize,
) -> Region {
    for _ in 0..ROUNDS {
        let mut changed = false;
        for other in others {
            if let Some((field, rest)) = one_field_less(&region, other) {
                let now = region.fields[field as usize].as_ref();
                if now.is_none_or(|now| told(field, &rest) > told(field, now)) {
                    continue;
                }
                region.fields[field as usize] = Some(rest);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    region
}

/// The field in which alone `region` reaches beyond `other`, and what is beyond. A region within the other has none.
fn one_field_less(region: &Region, other: &Region) -> Option<(Field, Classes)> {
    if !region.meets(other) {
        return None;
    }
    let mut beyond = Field::ALL
        .into_iter()
        .filter(|field| !region.is_within_in(other, *field as usize));
    let field = beyond.next()?;
    if beyond.next().is_some() || !PARTIAL.contains(&field) {
        return None;
    }
    let mine = region.fields[field as usize].as_ref()?;
    let theirs = other.fields[field as usize].as_ref()?;
    Some((field, mine.without(theirs)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fields that the cases have, with how many classes; the last is told as a whole only.
    const FIELDS: [(Field, usize); 3] = [
        (Field::Source, 4),
        (Field::DestinationPort, 70),
        (Field::TcpFlags, 3),
    ];

    fn region() -> impl Strategy<Value = Region> {
        let set = |(field, count): (Field, usize)| {
            prop::option::of(prop::collection::vec(0..count, 1..=count)).prop_map(move |classes| {
                let classes = classes.map(|classes| {
                    let mut set = Classes::none(count);
                    classes.into_iter().for_each(|class| set.insert(class));
                    set
                });
                (field, classes)
            })
        };
        FIELDS.map(set).prop_map(|sets| {
            let mut fields = vec![None; Field::ALL.len()];
            for (field, classes) in sets {
                fields[field as usize] = classes;
            }
            Region { fields }
        })
    }

    fn holds(region: &Region, point: [usize; 3]) -> bool {
        let mut fields = FIELDS.iter().zip(point);
        fields.all(|((field, _), class)| {
            let set = &region.fields[*field as usize];
            set.as_ref().is_none_or(|set| set.contains(class))
        })
    }

    proptest! {
        #[test]
        fn only_packets_that_others_decide_about_are_taken_and_no_word_is_added(
            region in region(),
            others in prop::collection::vec(region(), 0..6),
        ) {
            let others: Vec<&Region> = others.iter().collect();
            let told = |_: Field, classes: &Classes| classes.count();
            let short = shortened(region.clone(), &others, &told);
            for a in 0..FIELDS[0].1 {
                for b in 0..FIELDS[1].1 {
                    for c in 0..FIELDS[2].1 {
                        let point = [a, b, c];
                        let earlier = others.iter().any(|other| holds(other, point));
                        prop_assert!(!holds(&short, point) || holds(&region, point));
                        prop_assert!(earlier || holds(&short, point) == holds(&region, point));
                    }
                }
            }
            let flags = Field::TcpFlags as usize;
            prop_assert_eq!(&short.fields[flags], &region.fields[flags]);
        }
    }
}
