use crate::settings::Settings;

use super::*;

fn parse(text: &str) -> Result<Vec<NotifySettings>, String> {
    let text = format!("interfaces = [\"eth0\"]\n{text}");
    Settings::parse(Path::new("/etc/palisade/palisade.toml"), &text)
        .map(|settings| settings.notify)
        .map_err(|error| error.to_string())
}

#[test]
fn every_kind_can_be_said() {
    let all = parse(
        r#"
        [[notify]]
        name = "operations"
        kind = "alertmanager"
        url = "https://alerts.example:9093"
        ca_file = "ca.pem"
        username = "palisade"
        password_file = { credential = "alertmanager" }
        labels = { team = "edge" }
        resend = "30s"
        [[notify]]
        name = "chat"
        kind = "webhook"
        severity = "warning"
        kinds = ["syn_flood", "port_scan"]
        on = ["fired", "resolved"]
        url_file = "chat.url"
        template = '{"text": {{ alert.why }}}'
        secret_file = "/etc/palisade/chat.key"
        queue = { entries = 10 }
        [[notify]]
        name = "journal"
        kind = "journald"
        [[notify]]
        name = "pager"
        kind = "program"
        command = ["/usr/local/bin/page", "--now"]
        timeout = "5s"
        "#,
    )
    .expect("taken");
    let ways: Vec<_> = all.iter().map(|one| one.way.name()).collect();
    assert_eq!(ways, ["alertmanager", "webhook", "journald", "program"]);
    assert_eq!((all[1].queue.entries, all[1].queue.bytes), (10, 16 << 20));
    assert_eq!(all[3].timeout, Duration::from_secs(5));
    let Way::Alertmanager { endpoint, .. } = &all[0].way else {
        panic!("{:?}", all[0].way);
    };
    assert_eq!(endpoint.ca_file, Some("/etc/palisade/ca.pem".into()));
    let mut alert = super::super::notice::sample(AlertKind::SynFlood, Severity::Warning);
    assert!(all[1].filter.wants(&alert) && !all[1].filter.tells(Event::Changed));
    alert.severity = Severity::Info;
    assert!(!all[1].filter.wants(&alert));
    alert.kind = AlertKind::UdpFlood;
    alert.severity = Severity::Critical;
    assert!(!all[1].filter.wants(&alert));
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (table, says) in [
        ("name = \"a b\"\nkind = \"journald\"", "letters"),
        ("name = \"a\"\nkind = \"pager\"", "webhook"),
        ("name = \"a\"\nkind = \"webhook\"", "needs a `url`"),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"ftp://x/\"",
            ":5:7:",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://me:pw@x/\"",
            "password_file",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://x/\"\ntemplate = \"{{ alert.wy }}\"",
            ":6:12:",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://x/\"\nusername = \"me\"",
            "password_file",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://x/\"\nsecret = \"me\"",
            "secret_file",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://x/\"\ncommand = [\"/bin/true\"]",
            "has no `command`",
        ),
        (
            "name = \"a\"\nkind = \"webhook\"\nurl = \"https://x/\"\ntimeout = \"1h\"",
            "between",
        ),
        (
            "name = \"a\"\nkind = \"program\"\ncommand = [\"page\"]",
            "absolute",
        ),
        ("name = \"a\"\nkind = \"program\"\ncommand = []", "absolute"),
        (
            "name = \"a\"\nkind = \"journald\"\nseverity = \"warn\"",
            "warning",
        ),
        (
            "name = \"a\"\nkind = \"journald\"\nkinds = [\"syn_floot\"]",
            "syn_flood",
        ),
        ("name = \"a\"\nkind = \"journald\"\non = [\"test\"]", "`on`"),
        (
            "name = \"a\"\nkind = \"journald\"\nqueue = { entries = 0 }",
            "room",
        ),
        (
            "name = \"a\"\nkind = \"alertmanager\"\nurl = \"http://[::1]\"\nlabels = { kind = \"x\" }",
            "label",
        ),
        (
            "name = \"a\"\nkind = \"journald\"\n[[notify]]\nname = \"a\"\nkind = \"journald\"",
            "two notifiers",
        ),
    ] {
        let message = parse(&format!("[[notify]]\n{table}\n")).expect_err(table);
        assert!(message.contains(says), "{table}: {message}");
    }
}
