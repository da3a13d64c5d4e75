//! The way out: the tc program.

use anyhow::Result;
use firewall_common::{Direction, Reason};

use crate::policies::{OPEN_PORT, STRANGER, opening_and_answer, outgoing};
use crate::subject::{Group, Subject};

pub fn add(group: &mut Group) {
    group.subject(
        "Palisade, all may go out",
        "version = 1\n[defaults]\ninbound = \"drop\"\n",
        |subject| cases(subject, Reason::Default),
    );
    let policy = "version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"drop\"\n\
         [[rule]]\nname = \"updates\"\naction = \"accept\"\ndirection = \"outbound\"\nprotocol = \"tcp\"\nport = [443, 80]\n\
         [[rule]]\nname = \"names\"\naction = \"accept\"\ndirection = \"outbound\"\nprotocol = [\"udp\", \"tcp\"]\nport = 53\n\
         [[rule]]\nname = \"time\"\naction = \"accept\"\ndirection = \"outbound\"\nprotocol = \"udp\"\nport = 123\n";
    group.subject("Palisade, 3 rules outbound", policy, |subject| {
        cases(subject, Reason::Rule)?;
        for stranger in STRANGER {
            let other = outgoing(stranger, 25)?;
            subject.egress("drop by default", &other, Reason::Default)?;
        }
        Ok(())
    });
}

fn cases(subject: &mut Subject<'_>, opening_passes_by: Reason) -> Result<()> {
    for stranger in STRANGER {
        let (opening, answer) = opening_and_answer(stranger)?;
        subject.egress("pass, SYN", &opening, opening_passes_by)?;
        // The answer makes it a connection of both sides.
        subject.judge(&answer, Direction::Inbound)?;
        let further = outgoing(stranger, OPEN_PORT)?;
        subject.judge(&further, Direction::Outbound)?;
        subject.egress("pass, connection", &further, Reason::Established)?;
    }
    Ok(())
}
