# SPDX-License-Identifier: Apache-2.0
"""Networks beside each other: trained under one budget on the same images, measured alike.

`plan` says what is compared, `runs` trains and measures the rows (`grid`: what unpooling leaves),
`claims` judges what the papers claim, `report` and `plots` write what came out.
"""
