"""kasa_corda: does KaSA or CorDA really beat LoRA, and can one see it?"""
