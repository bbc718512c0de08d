//! The words of drawn names: a mood and somebody who found something out.

/// The name that a random number draws.
pub fn name(seed: u64) -> String {
    let mood = MOODS[(seed & 0xffff) as usize % MOODS.len()];
    let person = PEOPLE[(seed >> 16 & 0xffff) as usize % PEOPLE.len()];
    format!("{mood}_{person}")
}

const MOODS: &[&str] = &[
    "able", "agile", "amber", "amused", "awake", "bold", "brave", "breezy", "bright", "brisk", "busy", "calm", "candid",
    "careful", "cheerful", "clever", "cosy", "crisp", "curious", "daring", "deft", "eager", "earnest", "easy", "elated",
    "fair", "fearless", "festive", "fond", "frank", "fresh", "friendly", "gallant", "gentle", "glad", "gleeful", "grand",
    "happy", "hardy", "hearty", "honest", "hopeful", "humble", "jolly", "jovial", "keen", "kind", "laughing", "lively",
    "loyal", "lucid", "lucky", "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "peaceful",
    "pensive", "placid", "playful", "pleasant", "plucky", "polite", "proud", "quick", "quiet", "quirky", "ready", "relaxed",
    "rested", "robust", "sage", "serene", "sharp", "silent", "sincere", "smiling", "snug", "sober", "spry", "steady",
    "stoic", "sturdy", "sunny", "swift", "tender", "thrifty", "tidy", "tranquil", "trusty", "upbeat", "vibrant", "vivid",
    "warm", "wise", "witty", "zealous", "zesty",
];

const PEOPLE: &[&str] = &[
    "abel", "agnesi", "archimedes", "avicenna", "babbage", "banach", "banneker", "bardeen", "bassi", "bernoulli", "bhaskara",
    "blackwell", "bohr", "boole", "borg", "bose", "brahmagupta", "burnell", "cannon", "cantor", "carson", "cauchy", "cerf",
    "chandrasekhar", "chatelet", "clarke", "codd", "cori", "cray", "curie", "darwin", "davinci", "dewdney", "dijkstra",
    "dirac", "easley", "edison", "einstein", "elion", "engelbart", "erdos", "euclid", "euler", "faraday", "fermat", "fermi",
    "feynman", "franklin", "galileo", "galois", "gauss", "germain", "godel", "goldberg", "goodall", "hamilton", "hawking",
    "heisenberg", "hermann", "herschel", "hertz", "hilbert", "hodgkin", "hoover", "hopper", "hypatia", "jang", "jemison",
    "johnson", "joliot", "kalam", "kare", "keller", "kepler", "khayyam", "khorana", "kilby", "knuth", "kowalevski",
    "lagrange", "lalande", "lamarr", "lamport", "leakey", "leavitt", "lehmann", "leibniz", "liskov", "lovelace", "lumiere",
    "matsumoto", "maxwell", "mayer", "mccarthy", "mcclintock", "meitner", "mendel", "mendeleev", "mirzakhani", "montalcini",
    "moore", "morse", "napier", "nash", "neumann", "newton", "nightingale", "nobel", "noether", "noyce", "panini", "pare",
    "pascal", "pasteur", "payne", "perlman", "pike", "poincare", "poitras", "ptolemy", "raman", "ramanujan", "ride",
    "riemann", "ritchie", "robinson", "roentgen", "rubin", "saha", "sammet", "shannon", "shaw", "sinoussi", "snyder",
    "spence", "stallman", "stonebraker", "swanson", "swartz", "swirles", "tesla", "thompson", "torvalds", "turing",
    "varahamihira", "villani", "volhard", "wescoff", "wiles", "williams", "wing", "wozniak", "wright", "yalow", "yonath",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_a_name_and_words_are_plain() {
        assert!(name(u64::MAX).contains('_'));
        assert_eq!(name(0), "able_abel");
        for word in MOODS.iter().chain(PEOPLE) {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }
}
