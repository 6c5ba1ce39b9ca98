//! From where to where a payload moves, and what of that an interrupted move left to do. Pure.

use std::path::{Path, PathBuf};

use crate::store::{Choices, Moving};

/// From where to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    /// Whether an earlier run may have got some way.
    pub(super) begun: bool,
}

impl Route {
    pub(super) fn back(&self) -> Self {
        Self {
            from: self.to.clone(),
            to: self.from.clone(),
            begun: true,
        }
    }
}

/// What is left to do of a move that an earlier run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Files are at either place.
    Go(Route),
    /// All have arrived; the old place is to be cleared.
    Clear(Route),
}

/// What is left to do, so that the payload gets to `wanted` if that is one of its two places.
pub(super) fn rest(choices: &Choices, wanted: &Path) -> Option<Rest> {
    let dest = choices.dest.clone();
    let route = |from, to| Route {
        from,
        to,
        begun: true,
    };
    Some(match choices.moving.clone()? {
        Moving::To(other) if wanted == dest => Rest::Go(route(other, dest)),
        Moving::To(other) => Rest::Go(route(dest, other)),
        Moving::From(other) if wanted == other => Rest::Go(route(dest, other)),
        Moving::From(other) => Rest::Clear(route(other, dest)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_goes_on_to_whichever_of_its_two_places_is_wanted() {
        let (old, new) = (PathBuf::from("/old"), PathBuf::from("/new"));
        let to = |from: &PathBuf, to: &PathBuf| Route {
            from: from.clone(),
            to: to.clone(),
            begun: true,
        };
        let choices = |dest: &PathBuf, moving| Choices {
            moving,
            ..Choices::new(dest.clone())
        };
        let begun = choices(&old, Some(Moving::To(new.clone())));
        assert_eq!(rest(&begun, &new), Some(Rest::Go(to(&old, &new))));
        assert_eq!(rest(&begun, &old), Some(Rest::Go(to(&new, &old))));
        let third = Path::new("/third");
        assert_eq!(rest(&begun, third), Some(Rest::Go(to(&old, &new))));
        let arrived = choices(&new, Some(Moving::From(old.clone())));
        assert_eq!(rest(&arrived, &new), Some(Rest::Clear(to(&old, &new))));
        assert_eq!(rest(&arrived, third), Some(Rest::Clear(to(&old, &new))));
        assert_eq!(rest(&arrived, &old), Some(Rest::Go(to(&new, &old))));
        assert_eq!(rest(&choices(&old, None), &new), None);
    }
}
