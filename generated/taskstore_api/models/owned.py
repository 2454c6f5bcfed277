from enum import StrEnum


class Owned(StrEnum):
    FALSE = "false"
    NO = "no"
    TRUE = "true"
    VALUE_2 = "1"
    VALUE_3 = "0"
    YES = "yes"

    def __str__(self) -> str:
        return str(self.value)
