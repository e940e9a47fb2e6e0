"""What callers send: the bodies of requests, as the page of the interface tells them."""

from pydantic import BaseModel, ConfigDict, Field


class ListBody(BaseModel):
    """A list for a user who is known, or for a new one by what they bought."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: str | None = Field(None, description="Id of a user who is known.")
    history: list[str] | None = Field(None, description="Ids of the items that a new user bought, oldest first.")
    k: int = Field(10, description="Items of the list.")
    seen: bool = Field(False, description="Whether what the user has bought may come again.")
    allow: list[str] | None = Field(None, description="Item ids: no items but these.")
    deny: list[str] | None = Field(None, description="Item ids: none of these.")
    where: dict[str, str | list[str]] = Field({}, description="A column of the items, and the values that it may have.")
    columns: list[str] | None = Field(None, description="Columns told of each item; by default its title.")
    by_group: int | None = Field(None, description="The group whose module alone scores; by default the user's own.")


class ItemBody(BaseModel):
    """An item that came after the training. Further fields are columns of the items, each a text."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, str]

    id: str = Field(description="Its id, which no item has yet.")
    picture: str | None = Field(None, description="Its picture's file (PNG, JPEG …) in base64.")


class ItemsBody(BaseModel):
    """Items to take without training."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: list[ItemBody]
