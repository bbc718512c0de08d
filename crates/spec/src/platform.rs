//! Platforms: `os/arch[/variant]`, normalised as Docker does (`arm64/v8` is `arm64`, `x86_64` is `amd64`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The platform of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three words separated by `/`.
    #[error("{text:?} is an invalid platform: expected os, arch, os/arch or os/arch/variant")]
    Format {
        /// What was given.
        text: String,
    },
    /// A single word that is neither an operating system nor an architecture we know.
    #[error("{text:?}: unknown operating system or architecture")]
    Unknown {
        /// What was given.
        text: String,
    },
}

/// Operating systems that a single word can name.
const SYSTEMS: [&str; 12] = [
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "plan9",
    "android",
];
/// Architectures that a single word can name.
const ARCHITECTURES: [&str; 13] = [
    "amd64", "386", "arm64", "arm", "ppc64le", "ppc64", "s390x", "riscv64", "mips", "mipsle",
    "mips64", "mips64le", "loong64",
];

impl Platform {
    /// A normalised platform.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.filter(|v| !v.is_empty()).map(Into::into),
            other: Map::new(),
        }
        .normalised()
    }

    /// The platform this program was compiled for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Canonical names: lower case, Go's architectures, no default variant except `arm/v7`.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os.make_ascii_lowercase();
        if self.os == "macos" {
            self.os = "darwin".into();
        }
        self.architecture.make_ascii_lowercase();
        let variant = self.variant.take().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = match (self.architecture.as_str(), variant.as_str()) {
            ("i386" | "i686" | "x86", _) => ("386", String::new()),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", String::new()),
            ("x86_64" | "x86-64", _) => ("amd64", variant),
            ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", String::new()),
            ("aarch64", _) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7".into()),
            ("armel", _) => ("arm", "v6".into()),
            ("arm", "" | "7") => ("arm", "v7".into()),
            ("arm", "5" | "6" | "8") => ("arm", format!("v{variant}")),
            ("powerpc64le" | "powerpc64el", _) => ("ppc64le", variant),
            ("loongarch64", _) => ("loong64", variant),
            (other, _) => (other, variant),
        };
        self.architecture = architecture.to_owned();
        self.variant = (!variant.is_empty()).then_some(variant);
        self
    }

    /// Whether both name the same platform after normalising. Other fields (`os.version`) are not looked at.
    pub fn matches(&self, other: &Self) -> bool {
        self.rank(other) == Some(0)
    }

    /// How well an image of platform `image` runs where `self` is wanted: 0 is the same platform, larger is
    /// worse, None is not at all. An `arm/v7` machine also runs v6 and v5, an `amd64/v3` one v2 and v1,
    /// as containerd's matcher orders them.
    pub fn rank(&self, image: &Self) -> Option<u32> {
        let wanted = self.clone().normalised();
        let image = image.clone().normalised();
        if wanted.os != image.os || wanted.architecture != image.architecture {
            return None;
        }
        if wanted.variant == image.variant {
            return Some(0);
        }
        // The level that a missing variant means.
        let base = match wanted.architecture.as_str() {
            "arm" => 7,
            "amd64" => 1,
            "arm64" => 8,
            _ => return None,
        };
        let wanted_level = level(wanted.variant.as_deref(), base)?;
        let image_level = level(image.variant.as_deref(), base)?;
        wanted_level.checked_sub(image_level)
    }

    /// The position of the best match among `images`, by [`Platform::rank`]; the first of equals.
    pub fn choose<'a>(&self, images: impl IntoIterator<Item = &'a Self>) -> Option<usize> {
        images
            .into_iter()
            .enumerate()
            .filter_map(|(at, image)| self.rank(image).map(|rank| (rank, at)))
            .min()
            .map(|(_, at)| at)
    }
}

/// The number of a variant such as `v7`.
fn level(variant: Option<&str>, base: u32) -> Option<u32> {
    match variant {
        None => Some(base),
        Some(text) => text.strip_prefix('v')?.parse().ok(),
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(PlatformError::Format { text: text.into() });
        }
        match parts[..] {
            [single] => {
                let system = Self::new(single, "amd64", None).os;
                if SYSTEMS.contains(&system.as_str()) {
                    return Ok(Self {
                        os: system,
                        ..Self::host()
                    });
                }
                let platform = Self::new("linux", single, None);
                if ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Ok(platform);
                }
                Err(PlatformError::Unknown { text: text.into() })
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::Format { text: text.into() }),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_normalises() {
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AARCH64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("arm64", "linux/arm64"),
            ("macos/arm64", "darwin/arm64"),
        ];
        for (text, shown) in cases {
            assert_eq!(
                text.parse::<Platform>().unwrap().to_string(),
                shown,
                "{text}"
            );
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/amd64/v1/x",
            "li nux/amd64",
            "linux//x",
        ] {
            assert!(
                matches!(text.parse::<Platform>(), Err(PlatformError::Format { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            "toaster".parse::<Platform>(),
            Err(PlatformError::Unknown { .. })
        ));
    }

    #[test]
    fn best_match_is_exact_then_lower() {
        let offered: Vec<Platform> = [
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm64/v8",
            "unknown/unknown",
        ]
        .iter()
        .map(|p| p.parse().unwrap())
        .collect();
        let choose = |wanted: &str| wanted.parse::<Platform>().unwrap().choose(&offered);
        assert_eq!(choose("linux/amd64"), Some(0));
        assert_eq!(choose("linux/amd64/v3"), Some(0));
        assert_eq!(choose("linux/arm"), Some(2));
        assert_eq!(choose("linux/arm64"), Some(3));
        assert_eq!(choose("linux/s390x"), None);
        let v3: Platform = "linux/amd64/v3".parse().unwrap();
        assert_eq!(
            offered[0].rank(&v3),
            None,
            "an amd64 machine may not run v3 code"
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_is_stable(text in "\\PC{0,40}") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.clone().normalised(), platform.clone());
                prop_assert!(platform.matches(&platform));
            }
        }
    }
}
