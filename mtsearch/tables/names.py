"""Usual names of the columns of a table."""

import re
from collections.abc import Mapping, Sequence

_THINGS = (
    "movie", "product", "book", "track", "song", "artist", "article", "game", "video", "business", "anime", "app",
    "recipe", "restaurant", "joke", "beer", "news", "ad", "course", "job", "event", "listing", "hotel", "poi", "venue",
    "content", "photo", "feed", "story", "podcast", "show", "film", "work", "album", "playlist", "gmap", "post", "doc",
    "document", "goods", "creative", "material", "aid", "offer", "property", "store", "merchant",
)  # fmt: skip
COLUMN_ALIASES: Mapping[str, Sequence[str]] = {
    "user": (
        "userid", "user", "uid", "users", "userids", "customerid", "customer", "memberid", "member", "visitorid",
        "visitor", "reviewerid", "reviewer", "accountid", "account", "clientid", "client", "buyerid", "buyer", "msno",
        "personid", "person", "listenerid", "readerid", "viewerid", "subscriberid", "playerid", "householdkey",
        "householdid", "deviceid", "cookieid", "userkey", "userhash", "usersha1", "useridx", "steamid", "username",
        "profilename", "nickname", "sessionid", "session",
    ),
    "item": (
        "itemid", "item", "iid", "items", "itemids", "parentasin", *(f"{thing}id" for thing in _THINGS), "asin", "isbn",
        "stockcode", "sku", "msdid", "artid", "musicbrainzartistid", "artistmbid", "trackmbid", "appid", "itemkey",
        "itemidx", *_THINGS,
    ),
    "rating": (
        "rating", "ratings", "stars", "star", "score", "overall", "userrating", "bookrating", "starrating", "myrating",
        "reviewrating", "reviewoverall", "reviewscore", "ratingvalue", "ratingscore", "itemrating", "movierating",
        "overallrating", "usersrating", "scores", "grade", "rate", "rated", "points", "watchratio", "preference",
    ),
    "count": (
        "count", "counts", "clicks", "plays", "playcount", "playscount", "views", "viewcount", "listens", "listencount",
        "purchases", "quantity", "qty", "hours", "hoursplayed", "playtime", "playtimeforever", "watchtime",
        "listeningtime", "numplays", "nplays", "times", "frequency", "weight", "amount",
    ),
    "timestamp": (
        "timestamp", "unixreviewtime", "time", "ts", "timestamps", "timestampms", "datetime", "date", "eventtime",
        "createdat", "createdtime", "reviewtime", "reviewdate", "tdat", "clicktime", "unixtime", "utctime", "ratedat",
        "ratingtime", "ratingdate", "listenedat", "playedat", "viewedat", "watchedat", "purchasedate", "orderdate",
        "transactiondate", "invoicedate", "submittedat", "submitted", "eventtimestamp", "eventdate", "timems",
        "epoch", "dateadded", "added", "starttime", "sessionstart", "updatedat",
    ),
    "title": ("title", "name", "movietitle", "itemtitle", "itemname", "productname", "booktitle", "trackname",
              "artistname", "prodname", "originaltitle"),
}  # fmt: skip
"""Usual column names in lower case, without spaces and punctuation, the likeliest first."""


def find_aliases(names: Sequence[str], key: str) -> list[int]:
    """Return the positions of the columns whose name is the likeliest usual name of a key in this table.

    Args:
        names: column names as the file has them.
        key: what the column is for, such as `user`.

    Returns:
        No position if no column has a usual name of the key; several if the same name is there more than once.
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    likeliest = next((usual for usual in COLUMN_ALIASES.get(key, ()) if usual in plain), None)
    return [place for place, name in enumerate(plain) if name == likeliest]


def has_usual_name(names: Sequence[str]) -> bool:
    """Tell whether one of the column names is a usual name of anything."""
    return any(find_aliases(names, key) for key in COLUMN_ALIASES)
