//! Seeds, and bytes near them: what tests hold decoders to where no fuzzer runs. The same at every run.

use std::{collections::BTreeMap, env, fs, path::Path};

/// Has a folder hold exactly these files; with `MILLRACE_WRITE_SEEDS` set it is made to.
pub(crate) fn keep(folder: &Path, made: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let made: BTreeMap<_, _> = made.into_iter().collect();
    if env::var_os("MILLRACE_WRITE_SEEDS").is_some() {
        fs::remove_dir_all(folder).ok();
        fs::create_dir_all(folder).expect("the folder of seeds");
        for (name, bytes) in &made {
            fs::write(folder.join(name), bytes).expect("a seed");
        }
    }
    let entries = fs::read_dir(folder).expect("the folder of seeds");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let kept = names.map(|name| name.expect("a name")).map(|name| {
        let bytes = fs::read(folder.join(&name)).expect("a seed");
        (name, bytes)
    });
    let again = "other seeds are made now: run this test with MILLRACE_WRITE_SEEDS=1";
    assert!(kept.collect::<BTreeMap<_, _>>() == made, "{again}");
}

/// What the files of a folder hold, by the files' names.
pub(crate) fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder of seeds");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a seed")).collect()
}

/// The seeds, and then `count` changed copies of them.
pub(crate) fn near(seeds: Vec<Vec<u8>>, count: usize) -> impl Iterator<Item = Vec<u8>> {
    assert!(!seeds.is_empty(), "there are no seeds");
    let mut random = Random(0x6d69_6c6c_7261_6365);
    let whole = seeds.clone().into_iter();
    whole.chain((0..count).map(move |_| {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut bytes, &seeds, &mut random);
        }
        bytes
    }))
}

/// One change. Numbers at the edges of their ranges are what lengths and counts go wrong with.
fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xb8, 0xc0, 0xf8, 0xff];
    let at = random.below(bytes.len() + 1);
    let end = at + random.below(bytes.len() - at + 1).min(32);
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, random.next() as u8),
        5 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let part = other[from..].iter().take(64).copied().collect::<Vec<_>>();
            bytes.splice(at..end, part);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
