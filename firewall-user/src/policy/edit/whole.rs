//! A policy without files beside it: what the lists of its sets hold stands in the text.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Value};

use crate::policy::read_set_file;

/// The text with each list that a set takes from a file, relative to `base`, written into it.
pub fn whole(text: &str, base: &Path) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let Some(sets) = document.get_mut("sets").and_then(Item::as_table_like_mut) else {
        return Ok(document.to_string());
    };
    for (name, item) in sets.iter_mut() {
        let file = item.as_table_like().and_then(|table| table.get("file"));
        let Some(file) = file.and_then(Item::as_str) else {
            continue;
        };
        let path = base.join(file);
        let list =
            read_set_file(&path).map_err(|why| format!("set {name}: {}: {why}", path.display()))?;
        let addresses: Array = list.prefixes.iter().map(ToString::to_string).collect();
        *item = Item::Value(Value::Array(addresses));
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn a_policy_means_the_same_with_its_lists_written_into_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("bad.netset"),
            "# list\n203.0.113.0/24\n2001:db8::1 ; one\n",
        )
        .unwrap();
        let text = "version = 1\n[sets]\noffice = [\"198.51.100.7\"]\nbad = { file = \"bad.netset\" }\n\
                    [[rule]]\nname = \"bad\"\naction = \"drop\"\nfrom = \"bad\"\n";
        let alone = whole(text, folder.path()).unwrap();
        let (before, _) = Policy::parse(text, "before", folder.path()).unwrap();
        let (after, _) = Policy::parse(&alone, "after", Path::new("/nowhere")).unwrap();
        let prefixes = |policy: &Policy| -> Vec<_> {
            policy
                .sets
                .iter()
                .map(|set| (set.name.clone(), set.prefixes.clone()))
                .collect()
        };
        assert_eq!(prefixes(&before), prefixes(&after));
        assert_eq!(before.rules.len(), after.rules.len());
    }

    #[test]
    fn a_list_that_is_not_there_is_named() {
        let text = "version = 1\n[sets]\nbad = { file = \"gone.netset\" }\n";
        let error = whole(text, Path::new("/nowhere")).unwrap_err();
        assert!(
            error.contains("set bad") && error.contains("/nowhere/gone.netset"),
            "{error}"
        );
    }
}
