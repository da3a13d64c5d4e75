//! Puts the jumps of `loops` into the object file of the kernel programs, and moves what refers to
//! places in the code: symbols, relocations and the line information in `.BTF.ext`.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use object::build::elf::{Builder, SectionData, SectionId};
use object::elf::{SHF_EXECINSTR, SHT_STRTAB, STT_FUNC, STT_SECTION};

use crate::loops::{Shift, Slot, fallen_into};

const SLOT: u64 = size_of::<Slot>() as u64;
/// As in `firewall_common::image`.
const UNSET_WORDS: u32 = 30_000_001;

/// The object with every loop closed by a jump; nothing if they are all already.
pub fn close_loops(object: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut object = Builder::read(object).context("reading the object file")?;
    let mut changed = false;
    let sections: Vec<SectionId> = object
        .sections
        .iter()
        .filter(|section| section.sh_flags & u64::from(SHF_EXECINSTR) != 0)
        .map(|section| section.id())
        .collect();
    for section in sections {
        changed |= close_loops_of(&mut object, section)?;
    }
    if !changed {
        return Ok(None);
    }
    // LLVM keeps the sections' names beside the symbols'; the writer wants them apart.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut bytes = Vec::new();
    object
        .write(&mut bytes)
        .context("writing the object file")?;
    Ok(Some(bytes))
}

fn close_loops_of(object: &mut Builder<'_>, id: SectionId) -> Result<bool> {
    let section = object.sections.get_mut(id);
    let name = section.name.to_string();
    let SectionData::Data(data) = &mut section.data else {
        return Ok(false);
    };
    let (code, rest) = data.as_chunks::<{ SLOT as usize }>();
    ensure!(rest.is_empty(), "section {name} ends within an instruction");
    let functions = object
        .symbols
        .iter()
        .filter(|symbol| symbol.section == Some(id) && symbol.st_type() == STT_FUNC);
    let mut heads = Vec::new();
    for function in functions {
        let range = slots(function.st_value, function.st_size);
        let start = range.start;
        let function = code.get(range).context("a function beyond its section")?;
        heads.extend(fallen_into(function).into_iter().map(|head| start + head));
    }
    heads.sort_unstable();
    heads.dedup();
    if heads.is_empty() {
        return Ok(false);
    }
    let shift = Shift::new(heads);
    let code = shift
        .apply(code)
        .with_context(|| format!("section {name} is too large for its jumps"))?;
    *data = code.into_flattened().into();
    for symbol in &mut object.symbols {
        if symbol.section == Some(id) {
            let range = slots(symbol.st_value, symbol.st_size);
            let start = shift.of(range.start) as u64 * SLOT;
            symbol.st_size = shift.of(range.end) as u64 * SLOT - start;
            symbol.st_value = start;
        }
    }
    for section in &mut object.sections {
        let own = section.sh_info_section == Some(id);
        let SectionData::Relocation(relocations) = &mut section.data else {
            continue;
        };
        for relocation in relocations {
            // A function with a symbol moves with it; the others are known by their distance from the
            // section's start.
            let symbol = relocation.symbol.map(|symbol| object.symbols.get(symbol));
            ensure!(
                !symbol.is_some_and(|of| of.section == Some(id) && of.st_type() == STT_SECTION),
                "section {name} has a loop that kernels before 6.8 refuse, and a function without a symbol: \
                 inline it, or export it"
            );
            if own {
                let slot = (relocation.r_offset / SLOT) as usize;
                relocation.r_offset = shift.of(slot) as u64 * SLOT + relocation.r_offset % SLOT;
            }
        }
    }
    move_line_information(object, &name, &shift)?;
    Ok(true)
}

/// Where in the file the length of the image's type stands: the one number in its types that is
/// [`UNSET_WORDS`].
pub fn length_of_image(file: &[u8]) -> Result<usize> {
    let mut object = Builder::read(file).context("reading the object file")?;
    let types = section_data(&mut object, ".BTF").context("there is no section `.BTF`")?;
    let section = file
        .windows(types.len())
        .position(|bytes| bytes == types)
        .context("the section `.BTF` is not in the file")?;
    let mark = UNSET_WORDS.to_le_bytes();
    let mut found = types
        .windows(mark.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == mark)
        .map(|(at, _)| section + at);
    let (Some(at), None) = (found.next(), found.next()) else {
        bail!("no type, or more than one, is {UNSET_WORDS} words long");
    };
    Ok(at)
}

fn slots(start: u64, size: u64) -> Range<usize> {
    (start / SLOT) as usize..((start + size) / SLOT) as usize
}

/// Moves the places that `.BTF.ext` notes for a section: of functions, lines and relocations.
fn move_line_information(object: &mut Builder<'_>, of: &str, shift: &Shift) -> Result<()> {
    let strings = btf_strings(object)?;
    let Some(notes) = section_data(object, ".BTF.ext") else {
        return Ok(());
    };
    let word = |notes: &[u8], at: usize| -> Result<usize> {
        let bytes = notes.get(at..at + 4).context("`.BTF.ext` ends early")?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let header = word(notes, 4)?;
    // Offset and length of each part; the third is missing in the oldest form.
    for part in (8..header).step_by(8) {
        let mut at = header + word(notes, part)?;
        let end = at + word(notes, part + 4)?;
        if at == end {
            continue;
        }
        let record = word(notes, at)?;
        at += 4;
        while at < end {
            let name = strings.get(word(notes, at)?..).unwrap_or_default();
            let ours = name.split(|&byte| byte == 0).next() == Some(of.as_bytes());
            let count = word(notes, at + 4)?;
            at += 8;
            for _ in 0..count {
                if ours {
                    let slot = word(notes, at)? / SLOT as usize;
                    let moved = shift.of(slot) as u32 * SLOT as u32;
                    notes[at..at + 4].copy_from_slice(&moved.to_le_bytes());
                }
                at += record;
            }
        }
    }
    Ok(())
}

fn btf_strings(object: &mut Builder<'_>) -> Result<Vec<u8>> {
    let Some(types) = section_data(object, ".BTF") else {
        return Ok(Vec::new());
    };
    let word = |at: usize| -> Result<usize> {
        let bytes = types.get(at..at + 4).context("`.BTF` ends early")?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let start = word(4)? + word(16)?;
    let strings = types.get(start..start + word(20)?);
    Ok(strings.context("`.BTF` ends early")?.to_vec())
}

fn section_data<'a>(object: &'a mut Builder<'_>, name: &str) -> Option<&'a mut Vec<u8>> {
    object
        .sections
        .iter_mut()
        .filter(|section| section.name.as_slice() == name.as_bytes())
        .find_map(|section| match &mut section.data {
            SectionData::Data(data) => Some(data.to_mut()),
            _ => None,
        })
}
